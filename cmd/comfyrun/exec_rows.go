package main

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/comfyrun/comfyrun/workflows"
)

// assignment gives one input a value before a run.
type assignment struct {
	// Target is NODE.INPUT.
	Target string
	// Text is the value as a person writes it; see workflows.Graph.Set.
	Text string
	// Value is the value itself, where it came as JSON.
	Value *workflows.Value
}

// row is one run of each workflow: the inputs that it sets, later ones winning.
type row []assignment

// rowFlags are the flags that say how often a workflow runs and with which inputs.
type rowFlags struct {
	sets, sweeps []string
	batch        string
	shard        string
	seed         uint64
	seeded       bool
}

// rows returns the runs that the flags ask for: the rows of the batch file, or one, times the product of the sweeps.
func (f *rowFlags) rows() ([]row, error) {
	rows := []row{{}}
	if f.batch != "" {
		var err error
		if rows, err = readBatch(f.batch); err != nil {
			return nil, err
		}
	}
	var first row
	for _, set := range f.sets {
		target, text, ok := strings.Cut(set, "=")
		if !ok {
			return nil, fmt.Errorf("read --set %q: not of the form NODE.INPUT=VALUE", set)
		}
		first = append(first, assignment{Target: target, Text: text})
	}
	for i := range rows {
		rows[i] = slices.Concat(first, rows[i])
	}
	for _, sweep := range f.sweeps {
		values, err := parseSweep(sweep)
		if err != nil {
			return nil, err
		}
		if rows, err = product(rows, values); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// maxRows bounds the product of the sweeps: beyond it lies a mistake, not a plan.
const maxRows = 1_000_000

// product runs every row with every value; the last sweep varies fastest.
func product(rows []row, values []assignment) ([]row, error) {
	if len(rows)*len(values) > maxRows {
		return nil, fmt.Errorf("sweep %q: more than %d runs", values[0].Target, maxRows)
	}
	out := make([]row, 0, len(rows)*len(values))
	for _, r := range rows {
		for _, v := range values {
			out = append(out, append(slices.Clone(r), v))
		}
	}
	return out, nil
}

// parseSweep reads NODE.INPUT=VALUE,VALUE,…; a value with a comma stands in double quotes, as in CSV.
func parseSweep(sweep string) ([]assignment, error) {
	target, list, ok := strings.Cut(sweep, "=")
	if !ok {
		return nil, fmt.Errorf("read --sweep %q: not of the form NODE.INPUT=VALUE,VALUE,…", sweep)
	}
	reader := csv.NewReader(strings.NewReader(list))
	texts, err := reader.Read()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read --sweep %q: %w", sweep, err)
	}
	if _, err := reader.Read(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read --sweep %q: a line break outside of quotes", sweep)
	}
	if len(texts) == 0 {
		return nil, fmt.Errorf("read --sweep %q: no values", sweep)
	}
	var values []assignment
	for _, text := range texts {
		values = append(values, assignment{Target: target, Text: text})
	}
	return values, nil
}

// readBatch reads the rows of a file; its name says in which form.
func readBatch(path string) ([]row, error) {
	read := map[string]func([]byte) ([]row, error){".csv": readCSV, ".jsonl": readJSONL, ".ndjson": readJSONL}[strings.ToLower(filepath.Ext(path))]
	if read == nil {
		return nil, fmt.Errorf("read batch %s: the name must end in .csv or .jsonl", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read batch: %w", err)
	}
	rows, err := read(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")))
	if err == nil && len(rows) == 0 {
		err = errors.New("no rows")
	}
	if err != nil {
		return nil, fmt.Errorf("read batch %s: %w", path, err)
	}
	return rows, nil
}

// readCSV reads a table whose first line names the inputs. An empty cell leaves the input as it is.
func readCSV(data []byte) ([]row, error) {
	records, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
	if err != nil || len(records) == 0 {
		return nil, err
	}
	header := records[0]
	for i, target := range header {
		if strings.TrimSpace(target) == "" || slices.Contains(header[:i], target) {
			return nil, fmt.Errorf("column %d: name %q is empty or occurs twice", i+1, target)
		}
	}
	var rows []row
	for _, record := range records[1:] {
		r := row{}
		for i, text := range record {
			if text != "" {
				r = append(r, assignment{Target: strings.TrimSpace(header[i]), Text: text})
			}
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// readJSONL reads an object per line, whose members are inputs. A null leaves the input as it is.
func readJSONL(data []byte) ([]row, error) {
	var rows []row
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, workflows.MaxBytes)
	for n := 1; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		v, err := workflows.ParseValue(lines.Bytes())
		if err != nil {
			return nil, fmt.Errorf("row on line %d: %w", n, err)
		}
		members, ok := v.Object()
		if !ok {
			return nil, fmt.Errorf("line %d: a %s where an object should be", n, v.Kind())
		}
		r := row{}
		for _, m := range members {
			if !m.Value.IsNull() {
				r = append(r, assignment{Target: m.Key, Value: &m.Value})
			}
		}
		rows = append(rows, r)
	}
	return rows, lines.Err()
}

// apply returns a copy of a workflow with the seeds and inputs of a row.
func (f *rowFlags) apply(g *workflows.Graph, r row) (*workflows.Graph, error) {
	g = g.Clone()
	if f.seeded {
		for _, n := range g.Nodes() {
			setSeed(n, f.seed)
		}
	}
	for _, a := range r {
		n, input, err := g.Resolve(a.Target)
		if err != nil {
			return nil, err
		}
		if a.Value != nil {
			n.Inputs.Set(input, *a.Value)
			continue
		}
		if err := n.Set(input, a.Text); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// isSeed tells the inputs that start a noise generator.
func isSeed(m workflows.Member) bool {
	return (m.Key == "seed" || m.Key == "noise_seed") && m.Value.Kind() == workflows.KindNumber
}

func setSeed(n *workflows.Node, seed uint64) {
	for i, m := range n.Inputs {
		if isSeed(m) {
			n.Inputs[i].Value = workflows.UintValue(seed)
		}
	}
}

// shard is the part of the runs that this process does: every of-th, from the index-th on.
type shard struct{ index, of int }

// parseShard reads INDEX/OF, such as 2/8; empty is everything. 0/8 is 8/8, for machines that are numbered from 0.
func parseShard(text string) (shard, error) {
	if text == "" {
		return shard{1, 1}, nil
	}
	first, second, _ := strings.Cut(text, "/")
	index, err1 := strconv.Atoi(first)
	of, err2 := strconv.Atoi(second)
	if err1 != nil || err2 != nil || of < 1 || index < 0 || index > of {
		return shard{}, fmt.Errorf("read --shard %q: not of the form 2/8, from 1/8 to 8/8", text)
	}
	if index == 0 {
		index = of
	}
	return shard{index, of}, nil
}

// has says whether run i, counted from 0, belongs to the shard.
func (s shard) has(i int) bool { return i%s.of == s.index-1 }
