package diff

import "encoding/json"

// JSON writes a diff as one object: version (1), old and new with their names and formats, same, changes as [Change] has
// them in the order of the text, and layout.
func (d *Diff) JSON() ([]byte, error) {
	changes := d.Changes
	if changes == nil {
		changes = []Change{}
	}
	return json.MarshalIndent(struct {
		Version int      `json:"version"`
		Old     document `json:"old"`
		New     document `json:"new"`
		Same    bool     `json:"same"`
		Changes []Change `json:"changes"`
		Layout  Layout   `json:"layout"`
	}{1, d.Old.summary(), d.New.summary(), d.Same(), changes, d.Layout}, "", "  ")
}

// document names one side.
type document struct {
	Name   string `json:"name"`
	Format string `json:"format"`
}

func (doc *Document) summary() document {
	if doc.Drawing {
		return document{doc.Name, "ui"}
	}
	return document{doc.Name, "api"}
}
