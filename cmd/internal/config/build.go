package config

import (
	"fmt"
	"reflect"
)

// builder gathers a Config from its layers, and the faults of all of them.
type builder struct {
	config Config
	faults Errors
	// origin says where a key or table was set: a Fault without a message, by
	// dotted path. What is not in it has its default.
	origin map[string]Fault
	// broken are the tables of names ("listener", "pool") that could not be read
	// as such; nothing can be said about what is missing in them.
	broken  map[string]bool
	isEmpty map[string]bool // tables of pools whose list of backends is
	env     Environment
	asked   map[string]bool // variables that the file asked for
	digest  string          // of the file; "" = none was read
}

func newBuilder(env Environment) *builder {
	return &builder{
		config:  Default(),
		origin:  make(map[string]Fault),
		broken:  make(map[string]bool),
		isEmpty: make(map[string]bool),
		env:     env,
		asked:   make(map[string]bool),
	}
}

// lookup is the value of a variable that the file asks for; "" = empty or not set.
func (b *builder) lookup(name string) string {
	b.asked[name] = true
	return b.env[name]
}

// finish checks what spans keys and hands out the result.
func (b *builder) finish() (Config, error) {
	b.check()
	if len(b.faults) > 0 {
		b.faults.sort()
		return Config{}, b.faults
	}
	return b.config, nil
}

func (b *builder) fault(at Fault, format string, args ...any) {
	at.Msg = fmt.Sprintf(format, args...)
	b.faults = append(b.faults, at)
}

// set puts a raw value into an option's field, or reports why it cannot.
func (b *builder) set(o option, s scope, raw any, at Fault) {
	x, ok := o.kind.parse(raw)
	if !ok {
		hint := ""
		if text, is := raw.(string); is {
			hint = DidYouMean(text, o.kind.words)
		}
		b.fault(at, "must be %s; got %s%s", o.kind.must, show(raw), hint)
		return
	}
	reflect.ValueOf(o.field(s)).Elem().Set(reflect.ValueOf(x))
}
