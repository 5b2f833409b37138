package metrics

import (
	"strings"
	"testing"
)

func TestParseNetstat(t *testing.T) {
	tests := []struct {
		name, in string
		want     Netns
		fault    string
	}{
		{
			name: "all",
			in: "TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPMigrateReqSuccess TCPMigrateReqFailure\n" +
				"TcpExt: 9 1 2 3 4\nIpExt: InNoRoutes\nIpExt: 8\n",
			want: Netns{ListenOverflows: 1, ListenDrops: 2, MigrationsDone: 3, MigrationsRefused: 4},
		},
		{
			name: "not first, no migration",
			in:   "IpExt: ListenDrops\nIpExt: 8\nTcpExt: ListenDrops\nTcpExt: 5\n",
			want: Netns{ListenDrops: 5},
		},
		{name: "empty", fault: "no TcpExt line"},
		{name: "cut", in: "TcpExt: ListenDrops ListenOverflows\nTcpExt: 1\n", fault: "3 TcpExt names, 2 values"},
		{name: "no number", in: "TcpExt: ListenDrops\nTcpExt: x\n", fault: "TcpExt ListenDrops"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseNetstat(strings.NewReader(tt.in))
			if tt.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fault) {
					t.Errorf("got %v, want %q in it", err, tt.fault)
				}
				return
			}
			if err != nil || *got != tt.want {
				t.Errorf("got %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}

func TestReadNetns(t *testing.T) {
	if _, err := ReadNetns(); err != nil {
		t.Error(err)
	}
}
