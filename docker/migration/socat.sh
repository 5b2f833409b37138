#!/bin/sh
# One backend: socat has no weights and no checks.
exec socat TCP-LISTEN:7000,fork,reuseaddr,max-children=100 TCP:10.0.0.1:7001,connect-timeout=2
