package config

import (
	"fmt"
	"reflect"
	"testing"
)

func TestBinds(t *testing.T) {
	for text, want := range map[string][]Bind{
		`":80"`:                              {{":80", false}},
		`"[::]:80"`:                          {{"[::]:80", false}},
		`"10.0.0.1:80 [::1]:80"`:             {{"10.0.0.1:80", false}, {"[::1]:80", false}},
		`["0.0.0.0:80", "[::]:80"]`:          {{"0.0.0.0:80", false}, {"[::]:80", true}},
		`["[::]:80-81", "0.0.0.0:81"]`:       {{"[::]:80", false}, {"[::]:81", true}, {"0.0.0.0:81", false}},
		`["127.0.0.1:9-10", "[::1%eth0]:9"]`: {{"127.0.0.1:9", false}, {"127.0.0.1:10", false}, {"[::1%eth0]:9", false}},
		`":65534-65535"`:                     {{":65534", false}, {":65535", false}},
		`["", "127.0.0.1:80"]`:               {{"127.0.0.1:80", false}},
	} {
		c, err := Parse("f", []byte(fmt.Sprintf("[listener.a]\nbind = %s\npool = \"p\"\n[pool.p]\nbackends = [\"db:1\"]\n", text)), nil)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := c.Listeners[0].Binds(); !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %v, want %v", text, got, want)
		}
	}
}
