package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/BurntSushi/toml"
)

// listed is a backend as a file of backends has it.
type listed struct {
	Address string `json:"address"`
	Weight  *int   `json:"weight"`
	Backup  bool   `json:"backup"`
}

// ParseBackends reads a file of backends: JSON, if it begins as a list or an object does,
// or TOML. Each element is text as in backends, or has address, weight and backup.
//
//	["10.0.0.1:8080", {"address": "10.0.0.2:8080", "weight": 2}]      {"backends": [...]}
//
//	backends = ["10.0.0.1:8080"]      [[backends]]
//	                                  address = "10.0.0.2:8080"
//
// A list without elements is one; a file without a list is none, nor is TOML that does not
// end with the end of a line: it may be written half only.
func ParseBackends(data []byte) ([]Backend, error) {
	elements, err := backendElements(data)
	if err != nil {
		return nil, err
	}
	list := make([]Backend, 0, len(elements))
	seen := map[string]bool{}
	for i, e := range elements {
		b, err := e.backend()
		if err == nil && seen[strings.ToLower(b.Address)] {
			err = fmt.Errorf("%s is there twice; weight=2 gives it a double share", b.Address)
		}
		if err != nil {
			return nil, fmt.Errorf("backend %d: %w", i+1, err)
		}
		seen[strings.ToLower(b.Address)] = true
		b.FromFile = true
		list = append(list, b)
	}
	if len(list) > maxBackends {
		return nil, fmt.Errorf("has %d backends: at most %d are possible", len(list), maxBackends)
	}
	return list, nil
}

// element is one as it is written: text, or the rest.
type element struct {
	text string
	listed
}

func (e element) backend() (Backend, error) {
	if e.text != "" || e.Address == "" && e.Weight == nil {
		return parseBackend(e.text)
	}
	if strings.ContainsAny(e.Address, " \t\r\n") {
		return Backend{}, fmt.Errorf("address must be HOST:PORT alone; got %q", e.Address)
	}
	text := e.Address
	if e.Weight != nil {
		text += fmt.Sprintf(" weight=%d", *e.Weight)
	}
	if e.Backup {
		text += " backup"
	}
	return parseBackend(text)
}

func backendElements(data []byte) ([]element, error) {
	start := bytes.TrimLeft(data, " \t\r\n\ufeff")
	switch {
	case len(start) == 0:
		return nil, errors.New(`is empty; a list without backends is []`)
	case start[0] == '{', start[0] == '[' && !isTOMLHeader(start[1:]):
		return jsonElements(start)
	}
	if data[len(data)-1] != '\n' {
		return nil, errors.New("its last line does not end, so it may be written half only")
	}
	return tomlElements(string(data))
}

// isTOMLHeader tells [[backends]] and [table] from a JSON list: rest is behind its first [.
func isTOMLHeader(rest []byte) bool {
	rest = bytes.TrimLeft(rest, " \t\r\n")
	return len(rest) > 0 && (rest[0] == '[' || nameRule.Match(rest[:1]) && !('0' <= rest[0] && rest[0] <= '9'))
}

// UnmarshalJSON implements json.Unmarshaler.
func (e *element) UnmarshalJSON(data []byte) error {
	if data[0] == '"' {
		return json.Unmarshal(data, &e.text)
	}
	if data[0] != '{' {
		return fmt.Errorf(`a backend must be text or have an address; got %s`, data[:min(len(data), 40)])
	}
	return strictly(data, &e.listed)
}

func strictly(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

func jsonElements(data []byte) ([]element, error) {
	var whole struct {
		Backends *[]element `json:"backends"`
	}
	var err error
	if !json.Valid(data) { // the decoder would stop behind the first value
		var any any
		err = json.Unmarshal(data, &any)
	} else if data[0] == '[' {
		whole.Backends = new([]element)
		err = json.Unmarshal(data, whole.Backends)
	} else {
		err = strictly(data, &whole)
	}
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
		line, col := lineCol(string(data), int(syntax.Offset))
		return nil, fmt.Errorf("line %d, column %d: not JSON: %w", line, col, err)
	}
	switch {
	case err != nil:
		return nil, err
	case whole.Backends == nil:
		return nil, errors.New(`has no "backends"`)
	}
	return *whole.Backends, nil
}

// tomlElements are those of the JSON that means the same.
func tomlElements(text string) ([]element, error) {
	var whole map[string]any
	_, err := toml.Decode(text, &whole)
	if parse := (toml.ParseError{}); errors.As(err, &parse) {
		return nil, fmt.Errorf("line %d: not TOML: %s", parse.Position.Line, parse.Message)
	}
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(whole)
	if err != nil { // of a number that JSON does not have
		return nil, err
	}
	return jsonElements(data)
}

// WithFiles is c with the backends that the files of its pools say, beside their own. One
// that a pool has by itself stays as it is there. c is not changed.
func (c Config) WithFiles(say func(path string) []Backend) Config {
	pools := c.Pools
	c.Pools = make([]Pool, len(pools))
	for i, p := range pools {
		if c.Pools[i] = p; p.BackendsFile == "" {
			continue
		}
		var all []Backend
		own := map[string]bool{}
		for _, b := range p.Backends {
			if !b.FromFile {
				all = append(all, b)
				own[strings.ToLower(b.Address)] = true
			}
		}
		for _, b := range say(p.BackendsFile) {
			if !own[strings.ToLower(b.Address)] {
				all = append(all, b)
			}
		}
		c.Pools[i].Backends = all
	}
	return c
}
