//go:build charts || render

package charttest

import (
	"flag"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of values into the chart's README")

var valueLine = regexp.MustCompile(`^( *)([A-Za-z0-9]+):(?: +(.*?))?(?: +# (.*))?$`)

// values lists key, default and meaning of every value, from the lines of values.yaml. A key without a comment is a group,
// or a line of a default whose meaning stands above.
func values(t *testing.T) [][3]string {
	t.Helper()
	data := readFile(t, chart+"/values.yaml")
	var rows [][3]string
	var path []string
	for _, line := range strings.Split(data, "\n") {
		match := valueLine.FindStringSubmatch(line)
		if match == nil {
			continue
		}
		depth := len(match[1]) / 2
		path = append(path[:depth], match[2])
		if match[4] != "" {
			rows = append(rows, [3]string{strings.Join(path, "."), strings.ReplaceAll(match[3], "|", "\\|"), match[4]})
		}
	}
	return rows
}

func TestReadme(t *testing.T) {
	const file, begin = chart + "/README.md", "## Values\n\n"
	old := readFile(t, file)
	head, _, found := strings.Cut(old, begin)
	if !found {
		t.Fatalf("%s has no %q", file, begin)
	}
	rows := values(t)
	if len(rows) < 100 {
		t.Errorf("%d values are described", len(rows))
	}
	var table strings.Builder
	table.WriteString("| value | default | what it is |\n|---|---|---|\n")
	for _, r := range rows {
		preset := ""
		if r[1] != "" {
			preset = "`" + r[1] + "`"
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", r[0], preset, r[2])
	}
	current := head + begin + table.String()
	if *update {
		writeFile(t, file, current)
	} else if current != old {
		t.Errorf("%s is not current: make charts-docs", file)
	}
}
