package main

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/workflows"
)

// source is a workflow as it was given.
type source struct {
	name  string // the argument; "stdin" for -
	graph *workflows.Graph
}

// job is one run: a workflow with the inputs of one row.
type job struct {
	source     *source
	row        row
	rowNumber  int // from 1
	rows       int
	number, of int // among the runs of this command, from 1
	steps      int // nodes of the plan
}

// graph returns the workflow with the row's inputs.
func (j *job) graph(flags *rowFlags) (*workflows.Graph, error) {
	g, err := flags.apply(j.source.graph, j.row)
	return g, asUsage(err)
}

// label names the run for people.
func (j *job) label() string {
	if j.rows > 1 {
		return fmt.Sprintf("%s, row %d of %d", j.source.name, j.rowNumber, j.rows)
	}
	return j.source.name
}

var unfit = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// fileName is the run's name for files of its own.
func (j *job) fileName() string {
	base := filepath.Base(j.source.name)
	name := unfit.ReplaceAllString(strings.TrimSuffix(base, filepath.Ext(base)), "-")
	if j.rows > 1 {
		name = fmt.Sprintf("%s-row-%d", name, j.rowNumber)
	}
	return name
}

// title is what the author calls a node.
func (j *job) title(node string) string {
	if n := j.source.graph.Node(node); n != nil {
		return n.Title
	}
	return ""
}

// nodeLabel names a node for people.
func (j *job) nodeLabel(e engine.Event) string {
	if title := j.title(e.Node); title != "" && title != e.Class {
		return fmt.Sprintf("%s (%s %s)", title, e.Class, e.Node)
	}
	return fmt.Sprintf("%s %s", e.Class, e.Node)
}

// object is the row as JSON: the last value of each input.
func (r row) object() workflows.Value {
	var set workflows.Object
	for _, a := range r {
		if a.Value != nil {
			set.Set(a.Target, *a.Value)
		} else {
			set.Set(a.Target, workflows.StringValue(a.Text))
		}
	}
	return workflows.ObjectValue(set)
}

// makeJobs pairs every workflow with every row and keeps those of the shard.
func makeJobs(sources []*source, rows []row, part shard) []*job {
	var jobs []*job
	for i, s := range sources {
		for k, r := range rows {
			if part.has(i*len(rows) + k) {
				jobs = append(jobs, &job{source: s, row: r, rowNumber: k + 1, rows: len(rows)})
			}
		}
	}
	for i, j := range jobs {
		j.number, j.of = i+1, len(jobs)
	}
	return jobs
}
