package config

import (
	"encoding/json"
	"io"
	"strings"
	"time"
)

// WriteSchema writes the JSON Schema of a configuration file (draft-07, which taplo and
// the editors that build on it read). It comes from the table of options, so it knows
// every key; what spans keys, and how a text must look inside, only Read knows.
func WriteSchema(w io.Writer) error {
	c, l, p, r := Default(), DefaultListener("NAME"), DefaultPool("NAME"), Route{}
	root := tableSchema()
	root["$schema"] = "http://json-schema.org/draft-07/schema#"
	root["title"] = "sluice"
	for _, o := range options {
		t := root
		words := strings.Split(o.path, ".")
		for _, word := range words[:len(words)-1] {
			t = subtable(t, word)
		}
		property(t)[o.key()] = o.schema(scope{&c, &l, &p, &r})
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(root)
}

func tableSchema() map[string]any {
	return map[string]any{"type": "object", "additionalProperties": false, "properties": map[string]any{}}
}

func property(table map[string]any) map[string]any { return table["properties"].(map[string]any) }

// subtable is the table of a name inside another, made when it is asked for first. A * is
// any name.
func subtable(table map[string]any, name string) map[string]any {
	if name == "*" {
		if _, made := table["additionalProperties"].(map[string]any); !made {
			sub := tableSchema()
			table["additionalProperties"] = sub
			table["propertyNames"] = map[string]any{"pattern": nameRule.String()}
		}
		return table["additionalProperties"].(map[string]any)
	}
	all := property(table)
	if all[name] == nil {
		all[name] = tableSchema()
	}
	return all[name].(map[string]any)
}

// schema is that of one key's value. Every value may be a text with a variable in it.
func (o option) schema(s scope) map[string]any {
	made := map[string]any{"description": o.about()}
	switch {
	case o.kind.json == nil:
		made["type"] = "string"
	case o.kind.json["type"] == "array":
		for word, x := range o.kind.json {
			made[word] = x
		}
	default:
		made["anyOf"] = []any{o.kind.json, map[string]any{"type": "string", "pattern": `\$\{`}}
	}
	switch x := o.field(s).(type) {
	case *int:
		made["default"] = *x
	case *bool:
		made["default"] = *x
	case *float64:
		made["default"] = *x
	case *time.Duration, *Auto:
		made["default"] = plain(x)
	case *string:
		if *x != "" {
			made["default"] = *x
		}
	}
	return made
}

// about says what an editor shows beside a key.
func (o option) about() string {
	text := "Must be " + o.kind.must + ". A reload: " + string(o.apply.apply)
	if o.apply.why != "" {
		text += ", " + o.apply.why
	}
	return text + "."
}
