package workflows

import "strconv"

// These read what a program needs and takes for absent what is of another kind.

// Value is the value of a key; the zero Value, null, when there is none.
func (o Object) Value(key string) Value {
	v, _ := o.Get(key)
	return v
}

// Object is the object that a key holds, and whether it does.
func (o Object) Object(key string) (Object, bool) { return o.Value(key).Object() }

// List is the items of the list that a key holds.
func (o Object) List(key string) []Value {
	items, _ := o.Value(key).List()
	return items
}

// Text is the text that a key holds.
func (o Object) Text(key string) string { return o.Value(key).Text() }

// Text is the text that v is; empty when it is none.
func (v Value) Text() string {
	s, _ := v.Str()
	return s
}

// ID is the id of a node or link as text: ids are numbers or texts.
func (v Value) ID() string {
	if i, ok := v.Int64(); ok {
		return strconv.FormatInt(i, 10)
	}
	return v.Text()
}
