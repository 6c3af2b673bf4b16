package charts_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/charts"
)

// What is written reads back as it was, whatever the text.
func checkRoundTrip(t *testing.T, text string) {
	t.Helper()
	want := charts.ConfigMap{
		Name: "n", Labels: map[string]string{"yes": text}, Annotations: map[string]string{"no": "true", "a": text},
		Immutable: true, Data: map[string]string{"x.json": text, "null": "~", "1e3": "0x1"},
	}
	got, err := charts.ReadConfigMaps(want.YAML())
	if err != nil {
		t.Fatalf("%q: %v\n%s", text, err, want.YAML())
	}
	if diff := cmp.Diff([]charts.ConfigMap{want}, got); diff != "" {
		t.Errorf("%q: %s\n%s", text, diff, want.YAML())
	}
}

var hardTexts = []string{
	"", "\n", "\n\n", "a\n", "a\n\n", "a\nb", " a\nb\n", "a\n b\n\tc\n", "\ta\nb\n", "a\n\nb\n", "a \n b \n", "a\r\nb\n", "a\u0085b\n", "a\u2028b\nc\n", "\ufeffa\nb\n",
	"a\x00b\nc", "\u007f\n", "emoji 🏠\nmore 🏠\n", "yes", "No", "null", "~", "123", "1e5", "0x1f", ".inf", "- a\n- b\n", "a: b\n", "# c\nd\n", "---\na\n", "...\n",
	"{\n  \"a\": \"b\\n\"\n}\n", "a\n---\nb\n", "%YAML\nx\n", "'", "\"\n\\\n", "\u00a0x\ny\n", "e1", "true", "on", "/x/y", "a:b", "x\n   \n", "   ", "\uE000\nx\n", "\U0010FFFF", "٣\nx\n",
	"a\nb ", "a\nb\t\n", "1e3", "0o7", "0b1", "1_000", "190:20:30", "2001-12-14", "=", "<<", "NaN", "e3", "\ufffd", "a\rb\nc", "y: |\n  x\n", strings.Repeat("x ", 1<<16), strings.Repeat("x", 1<<16) + "\ny\n",
}

func TestYAMLRoundTrip(t *testing.T) {
	for _, text := range hardTexts {
		checkRoundTrip(t, text)
	}
}

func FuzzYAML(f *testing.F) {
	for _, text := range hardTexts {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if utf8.ValidString(text) {
			checkRoundTrip(t, text)
		}
	})
}

func FuzzReadConfigMaps(f *testing.F) {
	f.Add([]byte("kind: ConfigMap\nmetadata: {name: a}\ndata: {x: y}\n---\nkind: Secret\n"))
	f.Add([]byte(`{"items": [{"kind": "Deployment", "spec": {"template": {"spec": {"volumes": [{"projected": {"sources": [{"configMap": {"name": "a"}}]}}]}}}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if maps, err := charts.ReadConfigMaps(data); err == nil {
			for _, m := range maps {
				m.Digest()
			}
		}
		var c charts.Cluster
		if c.Add(data) == nil {
			charts.Drift(&charts.Bundle{Name: "x"}, c)
		}
	})
}
