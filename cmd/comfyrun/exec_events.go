package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/nodes"
	"github.com/comfyrun/comfyrun/workflows"
)

// The ways in which a run ends, as events and manifests call them.
const (
	statusSuccess     = "success"
	statusError       = "error"
	statusInvalid     = "invalid"
	statusInterrupted = "interrupted"
)

// outcome is how a run ended.
type outcome struct {
	Status  string
	Resumed bool // not run: the result of an earlier command stands
	Digest  string
	Outputs outputFiles
	Receipt string
	Took    time.Duration
	Err     error
}

// reporter tells somebody about runs, one after the other.
type reporter interface {
	start(j *job)
	event(j *job, e engine.Event)
	result(j *job, o outcome)
}

// reporters tells several.
type reporters []reporter

func (rs reporters) start(j *job) {
	for _, r := range rs {
		r.start(j)
	}
}

func (rs reporters) event(j *job, e engine.Event) {
	for _, r := range rs {
		r.event(j, e)
	}
}

func (rs reporters) result(j *job, o outcome) {
	for _, r := range rs {
		r.result(j, o)
	}
}

// eventLine is one line of --json. Members that a kind of event has no use for are left out.
type eventLine struct {
	Event    string           `json:"event"`
	Workflow string           `json:"workflow"`
	Run      int              `json:"run"`
	Runs     int              `json:"runs"`
	Set      *workflows.Value `json:"set,omitempty"`
	Node     string           `json:"node,omitempty"`
	Class    string           `json:"class,omitempty"`
	Title    string           `json:"title,omitempty"`
	Nodes    []string         `json:"nodes,omitempty"`
	Value    int              `json:"value,omitempty"`
	Total    int              `json:"total,omitempty"`
	Text     string           `json:"text,omitempty"`
	Cached   bool             `json:"cached,omitempty"`
	Digests  []string         `json:"digests,omitempty"`
	Seconds  float64          `json:"seconds,omitempty"`
	Status   string           `json:"status,omitempty"`
	Resumed  bool             `json:"resumed,omitempty"`
	Digest   string           `json:"digest,omitempty"`
	Outputs  any              `json:"outputs,omitempty"`
	Receipt  string           `json:"receipt,omitempty"`
	Error    *eventError      `json:"error,omitempty"`
}

// eventError is an error in an event, with the node where there is one.
type eventError struct {
	Message string `json:"message"`
	Kind    string `json:"kind,omitempty"`
	Node    string `json:"node,omitempty"`
	Class   string `json:"class,omitempty"`
	Input   string `json:"input,omitempty"`
}

func describeError(err error) *eventError {
	if err == nil {
		return nil
	}
	described := &eventError{Message: err.Error()}
	if node := nodeError(err); node != nil {
		described.Kind, described.Node, described.Class, described.Input = string(node.Kind), node.Node, node.Class, node.Input
	}
	return described
}

// jsonEvents writes one JSON object per line.
type jsonEvents struct {
	w    io.Writer
	dirs nodes.Dirs
}

func (r jsonEvents) line(j *job, line eventLine) {
	line.Workflow, line.Run, line.Runs = j.source.name, j.number, j.of
	if text, err := encodeLine(line); err == nil {
		r.w.Write(text) // a reader that went away does not stop the run
	}
}

func (r jsonEvents) start(j *job) {
	set := j.row.object()
	r.line(j, eventLine{Event: "run", Set: &set})
}

func (r jsonEvents) event(j *job, e engine.Event) {
	line := eventLine{
		Event: string(e.Kind), Node: e.Node, Class: e.Class, Title: j.title(e.Node), Value: e.Value, Total: e.Total,
		Text: e.Text, Cached: e.Cached, Digests: e.Digests, Seconds: seconds(e.Duration),
	}
	if e.Err != nil {
		line.Error = describeError(e.Err)
	}
	if e.Kind == engine.EventCached {
		line.Nodes = e.Nodes
	}
	if files := shownFiles(e.UI, r.dirs); len(files) > 0 {
		line.Outputs = files
	}
	r.line(j, line)
}

func (r jsonEvents) result(j *job, o outcome) {
	outputs := o.Outputs
	if outputs == nil {
		outputs = outputFiles{}
	}
	r.line(j, eventLine{
		Event: "result", Status: o.Status, Resumed: o.Resumed, Digest: o.Digest, Outputs: outputs, Receipt: o.Receipt,
		Seconds: seconds(o.Took), Error: describeError(o.Err),
	})
}

// seconds rounds to milliseconds.
func seconds(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }

// shownFiles returns the files and texts among what a node shows.
func shownFiles(ui engine.UI, dirs nodes.Dirs) []outputFile {
	folders := map[string]string{"output": dirs.Output, "temp": dirs.Temp, "input": dirs.Input}
	var files []outputFile
	for _, key := range slices.Sorted(maps.Keys(ui)) {
		for _, shown := range ui[key] {
			if text, ok := shown.(string); ok {
				files = append(files, outputFile{Text: text})
				continue
			}
			// Every kind of node has its own type for this; what they share is the JSON that ComfyUI's page reads.
			var file struct{ Filename, Subfolder, Type string }
			data, err := json.Marshal(shown)
			if err != nil || json.Unmarshal(data, &file) != nil || file.Filename == "" {
				continue
			}
			path := filepath.Join(folders[file.Type], filepath.FromSlash(file.Subfolder), file.Filename)
			files = append(files, outputFile{Path: path, Type: file.Type})
		}
	}
	return files
}

// resultFiles collects what all nodes of a run showed.
func resultFiles(result *engine.Result, dirs nodes.Dirs) outputFiles {
	outputs := outputFiles{}
	if result == nil {
		return outputs
	}
	for _, shown := range result.UI {
		if files := shownFiles(shown.UI, dirs); len(files) > 0 {
			outputs[shown.Node] = append(outputs[shown.Node], files...)
		}
	}
	return outputs
}

// pathLines prints the files that runs made, for the next program in a pipe.
type pathLines struct{ w io.Writer }

func (pathLines) start(*job)               {}
func (pathLines) event(*job, engine.Event) {}
func (r pathLines) result(_ *job, o outcome) {
	for _, kind := range []string{"output", "temp"} {
		for _, path := range o.Outputs.paths(kind) {
			fmt.Fprintln(r.w, path)
		}
	}
}
