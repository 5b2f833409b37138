package config

import (
	"testing"
)

func TestPattern(t *testing.T) {
	for _, test := range []struct {
		pattern, answer string
		want            bool
	}{
		{"PONG", "+PONG\r\n", true},
		{"pong", "+PONG\r\n", false},
		{"hex:ff 00", "a\xff\x00b", true},
		{"hex:ff01", "a\xff\x00b", false},
		{"re:^[+]PONG", "+PONG\r\n", true},
		{"re:^PONG", "+PONG\r\n", false},
		{Presets[CheckPostgres].Expect, "N", true},
		{Presets[CheckPostgres].Expect, "E", false},
		{Presets[CheckMySQL].Expect, "\x4a\x00\x00\x00\x0a8.0.1", true},
		{Presets[CheckMySQL].Expect, "\x4a\x00\x00\x00\xff\x10\x04", false},
		{Presets[CheckRedis].Expect, "-NOAUTH Authentication required.\r\n", true},
		{Presets[CheckRedis].Expect, "-LOADING\r\n", false},
	} {
		matches, err := Pattern(test.pattern)
		if err != nil {
			t.Errorf("%q: %v", test.pattern, err)
		} else if got := matches([]byte(test.answer)); got != test.want {
			t.Errorf("%q matches %q: %t", test.pattern, test.answer, got)
		}
	}
	for _, pattern := range []string{"hex:", "hex:0", "hex:zz", "re:("} {
		if _, err := Pattern(pattern); err == nil {
			t.Errorf("%q is taken", pattern)
		}
	}
}

func TestStatuses(t *testing.T) {
	has, err := Statuses("200-299, 401,503")
	if err != nil {
		t.Fatal(err)
	}
	for status, want := range map[int]bool{199: false, 200: true, 250: true, 299: true, 300: false, 401: true, 402: false, 503: true} {
		if has(status) != want {
			t.Errorf("%d: %t", status, !want)
		}
	}
	for _, text := range []string{"", "-", "200-", "99", "600", "300-200", "ok", "200,,201"} {
		if _, err := Statuses(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
