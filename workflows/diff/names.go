package diff

import (
	"slices"
	"strconv"

	"github.com/comfyrun/comfyrun/workflows"
)

const controlName = "control_after_generate"

// literals are the values of a node in the editor's format, which has them without names, by name.
func (r *reader) literals(class string, o workflows.Object) []Named {
	values := o.Value("widgets_values")
	if byName, ok := values.Object(); ok {
		literals := make([]Named, len(byName))
		for i, m := range byName {
			literals[i] = Named{m.Key, m.Value}
		}
		return literals
	}
	items, _ := values.List()
	names := r.valueNames(class, o, len(items))
	literals := make([]Named, len(items))
	for i, v := range items {
		literals[i] = Named{names[i], v}
	}
	return literals
}

// valueNames names the values of a node: as the file does if it does, else by the class, else by the slots, else by number.
// No name comes twice.
func (r *reader) valueNames(class string, o workflows.Object, n int) []string {
	names := fileNames(o, n)
	if names == nil {
		names = r.classNames(class, n)
	}
	if names == nil {
		names = slotNames(o, n)
	}
	if names == nil {
		names = proxyNames(o, n)
	}
	taken := map[string]int{}
	for i := range n {
		if i >= len(names) {
			names = append(names, "")
		}
		names[i] = distinct(taken, names[i], "value "+strconv.Itoa(i+1))
	}
	return names
}

// fileNames are those of widgets_values_named or widgets_values_ordered.
func fileNames(o workflows.Object, n int) []string {
	var names []string
	ordered, _ := o.Value("widgets_values_ordered").List()
	for _, v := range ordered {
		m, _ := v.Object()
		names = append(names, m.Value("name").Text())
	}
	if named, ok := o.Value("widgets_values_named").Object(); ok && names == nil {
		names = named.Keys()
	}
	if len(names) != n {
		return nil
	}
	return names
}

// classNames are the places of values of a class. Values that are left over have no name; a class with fewer values than
// places may be of another version, and its names are right as far as they go.
func (r *reader) classNames(class string, n int) []string {
	if r.definitions == nil {
		return nil
	}
	c, ok := r.definitions.Class(class)
	if !ok {
		return nil
	}
	names := []string{}
	upload := false
	for _, in := range c.Inputs {
		upload = upload || in.Upload
		if in.Grows {
			return nil
		}
		if in.Widget == "" {
			continue
		}
		names = append(names, in.Name)
		if in.Control {
			names = append(names, controlName)
			if in.Type == "COMBO" {
				names = append(names, "control_filter_list")
			}
		}
	}
	if upload {
		names = append(names, "upload")
	}
	return names[:min(n, len(names))]
}

// slotNames are those of the slots that belong to widgets, which newer editors write for all of them.
func slotNames(o workflows.Object, n int) []string {
	values, _ := o.Value("widgets_values").List()
	slots, _ := o.Value("inputs").List()
	var names []string
	for _, v := range slots {
		m, _ := v.Object()
		widget, ok := m.Value("widget").Object()
		if !ok {
			continue
		}
		name := widget.Value("name").Text()
		names = append(names, name)
		if (name == "seed" || name == "noise_seed") && len(names) < n && isControl(values[len(names)]) {
			names = append(names, controlName)
		}
	}
	if len(names) != n {
		return nil
	}
	return names
}

func isControl(v workflows.Value) bool {
	return slices.Contains([]string{"fixed", "increment", "decrement", "randomize", "increment-wrap"}, v.Text())
}

// proxyNames are those of the widgets inside that an instance of a subgraph shows.
func proxyNames(o workflows.Object, n int) []string {
	properties, _ := o.Value("properties").Object()
	proxies, _ := properties.Value("proxyWidgets").List()
	var names []string
	for _, v := range proxies {
		if items, _ := v.List(); len(items) > 1 {
			names = append(names, items[1].Text())
		}
	}
	if len(names) != n {
		return nil
	}
	return names
}

// ValueNames are the names of a node's values, in the order of the file.
func (n *Node) ValueNames() []string {
	names := make([]string, len(n.Literals))
	for i, l := range n.Literals {
		names[i] = l.Name
	}
	return names
}
