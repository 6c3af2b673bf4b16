package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/comfyrun/comfyrun/engine"
)

// progressOn returns the reporter for people: bars on a terminal, plain lines anywhere else.
func progressOn(w io.Writer) reporter {
	if file, ok := w.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		return &bars{w: w}
	}
	return plainLines{w}
}

// plainLines prints a line per node and per run.
type plainLines struct{ w io.Writer }

func (r plainLines) start(j *job) {
	if j.of > 1 {
		fmt.Fprintf(r.w, "%s\n", j.label())
	}
}

func (r plainLines) event(j *job, e engine.Event) {
	switch {
	case e.Kind == engine.EventNodeDone && !e.Cached && e.Duration >= 10*time.Millisecond:
		fmt.Fprintf(r.w, "  %s: %.2f s\n", j.nodeLabel(e), e.Duration.Seconds())
	case e.Kind == engine.EventBlocked && e.Err != nil:
		fmt.Fprintf(r.w, "  %v\n", e.Err)
	case e.Kind == engine.EventWarning:
		fmt.Fprint(r.w, warningLine(j, e))
	}
}

// warningLine is what a node has to say, as a line.
func warningLine(j *job, e engine.Event) string {
	return fmt.Sprintf("  %s: warning: %s\n", j.nodeLabel(e), e.Text)
}

func (r plainLines) result(j *job, o outcome) { fmt.Fprintln(r.w, resultText(j, o)) }

// resultText is how a run ended in a line. What went wrong is told once, at the end of the command; of
// several runs that fail, here.
func resultText(j *job, o outcome) string {
	switch {
	case o.Resumed:
		return j.label() + ": done before"
	case o.Status == statusSuccess:
		return fmt.Sprintf("%s: done in %.2f s", j.label(), o.Took.Seconds())
	case o.Status == statusError && j.of > 1:
		return fmt.Sprintf("%s: %s: %v", j.label(), o.Status, o.Err)
	}
	return fmt.Sprintf("%s: %s", j.label(), o.Status)
}

// bars shows a bar for the run and one for each node that tells how far it is.
type bars struct {
	w      io.Writer
	screen *mpb.Progress
	total  *mpb.Bar
	nodes  map[string]*mpb.Bar
}

func (r *bars) start(j *job) {
	r.screen = mpb.New(mpb.WithOutput(r.w), mpb.WithWidth(32))
	r.nodes = map[string]*mpb.Bar{}
	r.total = r.bar(j.label(), int64(j.steps))
}

func (r *bars) bar(name string, total int64) *mpb.Bar {
	return r.screen.AddBar(total, mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(name, decor.WCSyncSpaceR)),
		mpb.AppendDecorators(decor.CountersNoUnit("%d/%d", decor.WCSyncSpace), decor.Elapsed(decor.ET_STYLE_GO, decor.WCSyncSpace)))
}

func (r *bars) event(j *job, e engine.Event) {
	switch e.Kind {
	case engine.EventWarning:
		r.screen.Write([]byte(warningLine(j, e))) // above the bars
	case engine.EventProgress:
		if r.nodes[e.Node] == nil {
			r.nodes[e.Node] = r.bar("  "+j.nodeLabel(e), int64(e.Total))
		}
		r.nodes[e.Node].SetCurrent(int64(e.Value))
	case engine.EventNodeDone:
		r.drop(e.Node)
		if e.Parent == "" { // the total counts nodes of the workflow, not those inside of them
			r.total.Increment()
		}
	}
}

func (r *bars) drop(node string) {
	if bar := r.nodes[node]; bar != nil {
		bar.Abort(true)
		delete(r.nodes, node)
	}
}

func (r *bars) result(j *job, o outcome) {
	if r.screen != nil {
		for node := range r.nodes {
			r.drop(node)
		}
		r.total.Abort(true)
		r.screen.Wait()
		r.screen = nil
	}
	fmt.Fprintln(r.w, resultText(j, o))
}
