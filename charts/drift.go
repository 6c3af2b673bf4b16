package charts

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// State is how a cluster has a part of a bundle.
type State string

// The states of parts. Same and Kept are no drift.
const (
	Same       State = "same"        // the content is there, and mounted if anything of the bundle is
	Kept       State = "kept"        // an earlier version that nothing mounts, for going back
	Missing    State = "missing"     // nothing in the cluster has the content
	Edited     State = "edited"      // there under its name, with another content
	Mutable    State = "mutable"     // the content is there, and could be edited
	NotMounted State = "not mounted" // the content is there, and no workload mounts it
	Other      State = "other"       // a workload mounts another version
	Extra      State = "extra"       // a workload mounts what the bundle does not have
)

// Finding is what Drift says of one workflow, or of models.lock.
type Finding struct {
	Subject   string `json:"subject"` // a workflow's name, or models.lock
	State     State  `json:"state"`
	ConfigMap string `json:"configMap,omitempty"` // as the bundle names it
	Found     string `json:"found,omitempty"`     // the cluster's ConfigMap that the finding is about
	Workload  string `json:"workload,omitempty"`  // that mounts Found
	Detail    string `json:"detail,omitempty"`
}

// Drifted says whether a finding is a difference between cluster and bundle.
func (f Finding) Drifted() bool { return f.State != Same && f.State != Kept }

// Drift compares a cluster with a bundle, by the digests of what ConfigMaps hold: names that a Kustomize prefix changed do
// not matter, and annotations prove nothing. The findings are sorted by subject; each part of the bundle has one.
func Drift(b *Bundle, c Cluster) []Finding {
	d := drift{bundle: b, cluster: c, digests: map[string]string{}, bundled: map[string]bool{}}
	for _, m := range c.Maps {
		d.digests[m.Name] = m.Digest()
	}
	for _, w := range c.Workloads {
		d.mounts = d.mounts || slices.ContainsFunc(w.Maps, d.knows)
	}
	var found []Finding
	for _, m := range b.Maps {
		digest := m.Digest()
		d.bundled[digest] = true
		found = append(found, d.part(m, digest))
	}
	found = append(found, d.others()...)
	found = append(found, d.gone()...)
	slices.SortStableFunc(found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Found, b.Found))
	})
	return found
}

type drift struct {
	bundle  *Bundle
	cluster Cluster
	digests map[string]string // of the cluster's ConfigMaps, by name
	bundled map[string]bool   // digests of the bundle's
	mounts  bool              // something of the bundle is mounted
}

// knows says whether a name is that of a ConfigMap of the bundle, of this or another version.
func (d *drift) knows(name string) bool {
	_, there := d.digests[name]
	return there || slices.ContainsFunc(d.bundle.Maps, func(m ConfigMap) bool { return m.Name == name })
}

// mountedBy names the workload that mounts a ConfigMap; "" when none does.
func (d *drift) mountedBy(name string) string {
	for _, w := range d.cluster.Workloads {
		if slices.Contains(w.Maps, name) {
			return w.String()
		}
	}
	return ""
}

// part says how the cluster has one ConfigMap of the bundle, whose digest is given.
func (d *drift) part(want ConfigMap, digest string) Finding {
	f := Finding{Subject: want.Subject(), State: Missing, ConfigMap: want.Name}
	for _, have := range d.cluster.Maps {
		same := d.digests[have.Name] == digest
		switch {
		case !same && (have.Name == want.Name || have.Claimed() == digest):
			f.State, f.Found, f.Detail = Edited, have.Name, difference(want, have)
			f.Workload = d.mountedBy(have.Name)
			return f
		case same && f.Workload == "":
			f.State, f.Found, f.Workload = Same, have.Name, d.mountedBy(have.Name)
			if !have.Immutable {
				f.State = Mutable
			}
		}
	}
	if f.State == Same && d.mounts && f.Workload == "" && !want.IsLock() {
		f.State = NotMounted
	}
	if f.State == Missing {
		f.Workload = d.mountedBy(want.Name)
	}
	return f
}

// gone are the findings about ConfigMaps that workloads mount and that no version of the bundle has left in the cluster: pods
// that start now wait for them.
func (d *drift) gone() (found []Finding) {
	for _, name := range d.cluster.Absent(d.bundle) {
		if slices.ContainsFunc(d.bundle.Maps, func(m ConfigMap) bool { return m.Name == name }) {
			continue // it is missing, and part says so
		}
		found = append(found, Finding{
			Subject: name, State: Missing, ConfigMap: name, Workload: d.mountedBy(name), Detail: "neither the bundle nor the cluster has it",
		})
	}
	return found
}

// others are the findings about ConfigMaps of the cluster that are not of this version of the bundle.
func (d *drift) others() (found []Finding) {
	for _, have := range d.cluster.Maps {
		subject := have.Subject()
		want := slices.IndexFunc(d.bundle.Maps, func(m ConfigMap) bool { return m.Subject() == subject })
		of := d.bundled[d.digests[have.Name]] || d.bundled[have.Claimed()] ||
			slices.ContainsFunc(d.bundle.Maps, func(m ConfigMap) bool { return m.Name == have.Name })
		if other := have.Labels[LabelBundle]; of || other != "" && other != d.bundle.Name {
			continue
		}
		f := Finding{Subject: subject, State: Kept, Found: have.Name, Workload: d.mountedBy(have.Name)}
		switch {
		case f.Workload != "" && want < 0:
			f.State = Extra
		case f.Workload != "":
			f.State, f.ConfigMap = Other, d.bundle.Maps[want].Name
			f.Detail = difference(d.bundle.Maps[want], have)
		}
		found = append(found, f)
	}
	return found
}

// difference tells the first line of each key in which two ConfigMaps differ.
func difference(want, have ConfigMap) string {
	var parts []string
	for _, key := range want.keys() {
		text, there := have.Data[key]
		if !there {
			parts = append(parts, key+" is missing")
		} else if text != want.Data[key] {
			parts = append(parts, key+" "+firstDifference(want.Data[key], text))
		}
	}
	for _, key := range have.keys() {
		if _, there := want.Data[key]; !there {
			parts = append(parts, key+" is too many")
		}
	}
	return strings.Join(parts, "; ")
}

func firstDifference(want, have string) string {
	a, b := strings.Split(want, "\n"), strings.Split(have, "\n")
	for i := range a {
		if i == len(b) {
			return fmt.Sprintf("ends before line %d", i+1)
		}
		if a[i] != b[i] {
			return fmt.Sprintf("line %d: %s instead of %s", i+1, shortened(b[i]), shortened(a[i]))
		}
	}
	return fmt.Sprintf("goes on at line %d: %s", len(a)+1, shortened(b[len(a)]))
}

// shortened is a line for people, without what would move their cursor.
func shortened(line string) string {
	line = strings.Map(func(r rune) rune {
		if !printable(r) {
			return ' '
		}
		return r
	}, strings.TrimSpace(line))
	if runes := []rune(line); len(runes) > 60 {
		line = string(runes[:60]) + "…"
	}
	return line
}
