package charts

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Definition is a class of nodes that a workflow defines, of which workflows make use (docs/node-packages.md).
type Definition struct {
	Class string
	Text  []byte // of its file, JSON
}

// definitionEnd ends the names of files with definitions; a server passes them over where it looks for workflows.
const definitionEnd = ".node.json"

// definitionMaps makes the ConfigMaps of the definitions that workflows use, by class.
func (o Options) definitionMaps(sources []Source) (made map[string]ConfigMap, wrong []error) {
	given := map[string]Definition{}
	for _, d := range o.Definitions {
		given[d.Class] = d
	}
	made = map[string]ConfigMap{}
	for _, s := range sources {
		for _, class := range sortedNames(s.Defined) {
			if _, done := made[class]; done {
				continue
			}
			d, ok := given[class]
			if !ok {
				wrong = append(wrong, fmt.Errorf("bundle workflow %q: there is no definition of class %q", s.Name, class))
				continue
			}
			m, err := d.configMap(o)
			if err != nil {
				wrong = append(wrong, fmt.Errorf("bundle definition of class %q: %w", class, err))
			}
			made[class] = m
		}
	}
	return made, wrong
}

// configMap makes the ConfigMap of one definition. Its members keep their order, which is that of pages.
func (d Definition) configMap(o Options) (ConfigMap, error) {
	var text bytes.Buffer
	if err := json.Compact(&text, d.Text); err != nil {
		return ConfigMap{}, err
	}
	if !utf8.Valid(text.Bytes()) {
		return ConfigMap{}, errors.New("its text is not UTF-8")
	}
	compact := bytes.Clone(text.Bytes())
	text.Reset()
	if err := json.Indent(&text, compact, "", "  "); err != nil {
		return ConfigMap{}, err
	}
	key := d.file()
	data := map[string]string{key: text.String() + "\n"}
	if dataSize(data) > MaxData {
		data[key] = string(compact) + "\n"
	}
	return o.made(strings.TrimSuffix(key, ".json"), "nodes", data, map[string]string{annotationClass: d.Class})
}

// file is the name of the definition's file. A class may have any name, a key may not.
func (d Definition) file() string {
	if workflowName.MatchString(d.Class) {
		return d.Class + definitionEnd
	}
	sum := sha256.Sum256([]byte(d.Class))
	return strings.TrimPrefix(slug(d.Class)+"-", "-") + hex.EncodeToString(sum[:4]) + definitionEnd
}
