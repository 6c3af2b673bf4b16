package ui

import "slices"

// ValueIndex returns the position at which the list of a node's values, as the editor saves it, has the value of an input,
// or what the page keeps beside it (control_after_generate); -1 for an input that has no widget.
func (c *Class) ValueIndex(input string) int {
	_, places := classWidgets(c)
	return slices.IndexFunc(places, func(p place) bool { return p.name == input })
}
