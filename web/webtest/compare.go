package webtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Difference is a place where an answer is not as recorded. Path leads to it
// through the JSON: "json/p1/status/messages/2/0".
type Difference struct{ Path, Want, Got string }

// String is the difference as a line.
func (d Difference) String() string {
	return fmt.Sprintf("%s: want %s, got %s", d.Path, shorten(d.Want), shorten(d.Got))
}

func shorten(s string) string {
	const most = 500
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// Compare compares an answer's JSON with a recorded one. Placeholders stand for
// what differs from run to run; what is a set may come in any order; texts
// of Python exceptions, tracebacks, tooltips and descriptions are free.
func Compare(path string, want, got []byte) []Difference {
	w, err := decode(want)
	if err != nil {
		return []Difference{{path, "JSON", fmt.Sprintf("a recording that is none: %v", err)}}
	}
	g, err := decode(got)
	if err != nil {
		return []Difference{{path, string(want), fmt.Sprintf("%v: %s", err, got)}}
	}
	return compare(path, w, g)
}

// bare are the numbers that Python writes and JSON lacks, outside of strings.
var bare = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|NaN|-?Infinity`)

// decode reads JSON with exact numbers; NaN becomes the placeholder "<NaN>".
func decode(data []byte) (v any, err error) {
	data = bare.ReplaceAllFunc(data, func(token []byte) []byte {
		if token[0] == '"' {
			return token
		}
		return []byte(`"<` + string(token) + `>"`)
	})
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, fmt.Errorf("text after the value")
	}
	return v, nil
}

func encode(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	return strings.TrimSpace(b.String())
}

// compare finds the differences of two decoded values.
func compare(path string, want, got any) []Difference {
	differ := []Difference{{path, encode(want), encode(got)}}
	if free(path, want, got) {
		return nil
	}
	switch want := want.(type) {
	case map[string]any:
		got, ok := got.(map[string]any)
		if !ok {
			return differ
		}
		return compareObjects(path, want, got)
	case []any:
		got, ok := got.([]any)
		switch {
		case !ok || len(want) != len(got):
			return differ
		case isSet(path, want):
			return compareSets(path, want, got)
		}
		return compareLists(path, want, got)
	case json.Number:
		if n, ok := got.(json.Number); ok && sameNumber(want.String(), n.String()) {
			return nil
		}
		return differ
	case string:
		if sameText(path, want, got) {
			return nil
		}
		return differ
	}
	if want == got {
		return nil
	}
	return differ
}

// sameNumber compares exactly; a float is no integer.
func sameNumber(a, b string) bool {
	float := func(s string) bool { return strings.ContainsAny(s, ".eE") }
	if a == b || float(a) != float(b) {
		return a == b
	}
	x, err1 := strconv.ParseFloat(a, 64)
	y, err2 := strconv.ParseFloat(b, 64)
	return float(a) && err1 == nil && err2 == nil && x == y
}

// free reports what says the same in other words.
func free(path string, want, got any) bool {
	switch key := path[strings.LastIndex(path, "/")+1:]; key {
	case "tooltip", "description", "exception_message":
		_, ok1 := want.(string)
		_, ok2 := got.(string)
		return ok1 && ok2
	case "traceback":
		_, ok := got.([]any)
		return ok
	}
	items, ok := want.([]any)
	if !ok || len(items) != 1 || !startsWith(items[0], "tensor(") {
		return false
	}
	_, ok = got.([]any)
	return ok // current_inputs that are no literals
}

func startsWith(v any, prefix string) bool {
	s, ok := v.(string)
	return ok && strings.HasPrefix(s, prefix)
}

var (
	setKeys   = []string{"errors", "dependent_outputs", "nodes", "executed", "current_outputs", "queue_running", "output_tooltips"}
	tuplePath = regexp.MustCompile(`/(prompt|queue_(running|pending)/\d+)/4$`)
)

func isSet(path string, _ []any) bool {
	key := path[strings.LastIndex(path, "/")+1:]
	return slices.Contains(setKeys, key) || tuplePath.MatchString(path) || key == "queue_pending"
}

// compareSets pairs elements off. Of a heap the first one must be first.
func compareSets(path string, want, got []any) []Difference {
	var out []Difference
	rest := slices.Clone(got)
	for i, w := range want {
		if i == 0 && strings.HasSuffix(path, "/queue_pending") {
			out, rest = compare(path+"/0", w, rest[0]), rest[1:]
			continue
		}
		at := fmt.Sprintf("%s/%d", path, i)
		match := slices.IndexFunc(rest, func(g any) bool { return len(compare(at, w, g)) == 0 })
		if match < 0 {
			// The nearest is what has the fewest differences.
			match = nearest(at, w, rest)
			out = append(out, compare(at, w, rest[match])...)
		}
		rest = slices.Delete(rest, match, match+1)
	}
	return out
}

func nearest(path string, want any, candidates []any) int {
	best, fewest := 0, -1
	for i, g := range candidates {
		if n := len(compare(path, want, g)); fewest < 0 || n < fewest {
			best, fewest = i, n
		}
	}
	return best
}

func compareLists(path string, want, got []any) []Difference {
	var out []Difference
	for i := range want {
		out = append(out, compare(fmt.Sprintf("%s/%d", path, i), want[i], got[i])...)
	}
	return out
}

func compareObjects(path string, want, got map[string]any) []Difference {
	var out []Difference
	rest := maps.Clone(got)
	for _, key := range slices.Sorted(maps.Keys(want)) {
		name := key
		if strings.HasPrefix(key, "<") {
			name = matching(key, rest)
		}
		g, ok := rest[name]
		if !ok {
			out = append(out, Difference{path + "/" + key, encode(want[key]), "nothing"})
			continue
		}
		delete(rest, name)
		out = append(out, compare(path+"/"+key, member(want, key), g)...)
	}
	for _, key := range slices.Sorted(maps.Keys(rest)) {
		out = append(out, Difference{path + "/" + key, "nothing", encode(rest[key])})
	}
	return out
}

// matching is the key that a placeholder stands for.
func matching(placeholder string, from map[string]any) string {
	for _, key := range slices.Sorted(maps.Keys(from)) {
		if pattern(placeholder).MatchString(key) {
			return key
		}
	}
	return placeholder
}

// member is a member of an object; the details of a reason that quotes a
// Python exception are any text.
func member(object map[string]any, key string) any {
	if key == "details" && slices.Contains(quoting, fmt.Sprint(object["type"])) {
		return "<text>"
	}
	return object[key]
}

var quoting = []string{"invalid_input_type", "exception_during_validation", "exception_during_inner_validation"}

// placeholders are the patterns for what differs from run to run.
var placeholders = map[string]string{
	"<uuid>": `[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}`, "<sid>": `[0-9a-f]{32}`, "<ms>": `\d{13}`, "<int>": `-?\d+`,
	"<time>": `\d+(?:\.\d+)?(?:[eE]\+\d+)?`, "<text>": `(?s:.*)`, "<argv>": `(?s:.*)`, "<traceback>": `(?s:.*)`, "<5 letters>": `[a-z]{5}`,
}

func pattern(want string) *regexp.Regexp {
	p := regexp.QuoteMeta(want)
	for name, expression := range placeholders {
		p = strings.ReplaceAll(p, regexp.QuoteMeta(name), expression)
	}
	return regexp.MustCompile(`^(?:` + p + `)$`)
}

// sameText compares a text that may hold placeholders. The lines of an error's
// details come in any order.
func sameText(path, want string, got any) bool {
	text, ok := got.(string)
	if n, isNumber := got.(json.Number); isNumber && placeholders[want] != "" {
		text, ok = n.String(), true
	}
	if !ok {
		return false
	}
	if strings.HasSuffix(path, "/error/details") {
		return slices.Equal(reasons(want), reasons(text))
	}
	return want == text || pattern(want).MatchString(text)
}

// reasons are the lines of details, sorted, without what quotes a Python exception.
func reasons(details string) []string {
	lines := strings.Split(details, "\n")
	for i, line := range lines {
		for _, free := range []string{"Failed to convert an input value", "Exception when validating"} {
			if strings.HasPrefix(line, free) {
				lines[i], _, _ = strings.Cut(line, ": ")
			}
		}
	}
	slices.Sort(lines)
	return lines
}
