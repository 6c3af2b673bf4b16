package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/nodes"
	"github.com/comfyrun/comfyrun/workflows"
)

// session is what the runs of one command share.
type session struct {
	flags *execFlags
	*machine
	version   func() (string, error) // of ONNX Runtime
	manifest  *manifest
	reporters reporters
	log       runLog
}

// run checks all jobs, then runs one after the other. A failed run does not keep the others from running.
func (s *session) run(ctx context.Context, jobs []*job) error {
	if err := s.check(ctx, jobs); err != nil {
		return err
	}
	var first error
	failed := 0
	for _, j := range jobs {
		o, err := s.runJob(ctx, j)
		if err != nil {
			o.Status, o.Err = statusError, err
		}
		s.reporters.result(j, o)
		if err != nil {
			return err
		}
		if o.Status == statusInterrupted {
			return fmt.Errorf("%s: interrupted: %w", j.label(), context.Canceled)
		}
		if o.Err != nil {
			if failed++; first == nil {
				first = fmt.Errorf("%s: %w", j.label(), o.Err)
			}
		}
	}
	if failed > 0 && len(jobs) > 1 {
		return fmt.Errorf("%d of %d runs failed, first %w", failed, len(jobs), first)
	}
	return first
}

// check plans every job, so that a mistake in the last row shows before the first one runs.
func (s *session) check(ctx context.Context, jobs []*job) error {
	for _, j := range jobs {
		if interrupted(ctx) {
			return ctx.Err()
		}
		g, err := j.graph(&s.flags.rows)
		if err == nil {
			_, err = s.plan(j, g)
		}
		if err != nil {
			s.reporters.result(j, outcome{Status: statusInvalid, Err: err})
			return fmt.Errorf("%s: %w", j.label(), err)
		}
	}
	return nil
}

// plan plans a job. Other than a server, which runs the outputs that are left, a workflow with any mistake is refused:
// half a batch is nobody's wish.
func (s *session) plan(j *job, g *workflows.Graph) (*engine.Plan, error) {
	plan, err := engine.NewPlan(g, s.catalog, engine.PlanOptions{})
	if err == nil && plan.Invalid != nil {
		err = plan.Invalid
	}
	if invalid := (*engine.InvalidError)(nil); errors.As(err, &invalid) {
		s.nameMissing(g, invalid)
	}
	if err == nil {
		err = s.checkInside(g)
	}
	if err != nil {
		return nil, err
	}
	j.steps = len(plan.Steps)
	return plan, nil
}

// nameMissing tells model files that are missing from other choices that do not exist, and node types of ComfyUI's that
// are not supported from those that nobody knows.
func (s *session) nameMissing(g *workflows.Graph, invalid *engine.InvalidError) {
	for _, e := range invalid.Errors {
		if reason, known := nodes.Unsupported(e.Class); known && e.Kind == engine.MissingNodeType {
			e.Err = fmt.Errorf("the node type %s is not supported: %s; see docs/nodes.md", e.Class, reason)
		}
	}
	for _, use := range modelUses(g) {
		_, err := s.folders.Path(use.folder, use.name)
		if !errors.Is(err, models.ErrMissing) {
			continue
		}
		for _, e := range invalid.Errors {
			if e.Kind == engine.NotInList && e.Node == use.node && e.Input == use.input {
				e.Err = err
			}
		}
	}
}

// runJob runs one job and, when that went well, writes its receipt and its line of the manifest. The error is one that makes further runs
// useless; that of the run itself is in the outcome.
func (s *session) runJob(ctx context.Context, j *job) (outcome, error) {
	g, err := j.graph(&s.flags.rows)
	if err != nil {
		return outcome{Status: statusInvalid, Err: err}, err
	}
	// What is written down does not need the definitions of nodes, and differs when they do.
	written, err := s.defined.WriteOut(g)
	if err != nil {
		return outcome{Status: statusInvalid, Err: err}, err
	}
	o := outcome{Digest: workflows.Digest(written)}
	if done, ok := s.manifest.stands(o.Digest); ok && s.flags.resume {
		return s.resumed(o, done), nil
	}
	plan, err := s.plan(j, g)
	if err != nil {
		o.Status, o.Err = statusInvalid, err
		return o, nil
	}
	s.reporters.start(j)
	started := time.Now()
	result, err := s.runner.Run(ctx, plan, engine.RunOptions{
		Digests: true, Extra: s.pictureText(ctx, j, written), Events: func(e engine.Event) {
			s.log.note(e)
			s.reporters.event(j, e)
		},
	})
	o.Took, o.Err, o.Status = time.Since(started), err, statusSuccess
	o.Outputs = resultFiles(result, s.dirs)
	if err != nil {
		o.Status = statusError
		if interrupted(ctx) {
			o.Status = statusInterrupted
		}
		return o, nil
	}
	return o, s.record(ctx, record{j, written, plan, result, started}, &o)
}

// pictureText is what a saved picture carries beside its prompt: the part of the receipt that is known before the run.
// A model that cannot be read is left for its node to report.
func (s *session) pictureText(ctx context.Context, j *job, g *workflows.Graph) engine.ExtraPNGInfo {
	r := newReceipt(j, g)
	if err := r.readModels(ctx, s, g); err != nil {
		return nil
	}
	text, err := json.Marshal(receiptHead{Receipt: r.Receipt, Digest: r.Digest, Models: r.Models, Engine: s.engine()})
	if err != nil {
		return nil
	}
	return engine.ExtraPNGInfo{"receipt": text}
}

// record is what there is to write down about a run.
type record struct {
	job     *job
	graph   *workflows.Graph
	plan    *engine.Plan
	result  *engine.Result
	started time.Time
}

// record writes the receipt, then the line of the manifest that names it.
func (s *session) record(ctx context.Context, r record, o *outcome) error {
	// An interrupt that comes now does not leave a picture without its receipt.
	ctx = context.WithoutCancel(ctx)
	receipt := newReceipt(r.job, r.graph)
	receipt.Started, receipt.Seconds = r.started.UTC(), seconds(o.Took)
	receipt.Engine = s.engine()
	receipt.Engine.CPU = processor()
	receipt.Nodes = s.log.nodes(r.plan, r.result)
	if err := receipt.readModels(ctx, s, r.graph); err != nil {
		return fmt.Errorf("write receipt: %w", err)
	}
	if err := receipt.readInputs(r.graph, s.dirs); err != nil {
		return fmt.Errorf("write receipt: %w", err)
	}
	var err error
	if o.Receipt, err = receipt.write(r.job, s.dirs, o.Outputs); err != nil {
		return err
	}
	return s.note(r.job, o)
}

func (s *session) engine() receiptEngine {
	e := receiptEngine{Comfyrun: engineVersion(), Device: s.flags.device, Threads: s.flags.threads}
	if s.machine.diffusion != nil {
		e.setPlace(s.machine.diffusion.Place(context.Background()))
	}
	if v, err := s.version(); err == nil {
		e.ONNXRuntime = v
	}
	return e
}

// note adds the run to the manifest.
func (s *session) note(j *job, o *outcome) error {
	line := manifestLine{Workflow: j.source.name, Row: j.rowNumber, Set: j.row.object(), Digest: o.Digest}
	var err error
	if line.Outputs, err = o.Outputs.only("output", s.dirs.Output); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	if line.Receipt, err = filepath.Rel(s.dirs.Output, o.Receipt); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	line.Receipt = filepath.ToSlash(line.Receipt)
	return s.manifest.add(line)
}

// resumed is the outcome of a run whose result stands.
func (s *session) resumed(o outcome, done manifestLine) outcome {
	o.Status, o.Resumed, o.Outputs = statusSuccess, true, outputFiles{}
	for node, files := range done.Outputs {
		for _, file := range files {
			o.Outputs[node] = append(o.Outputs[node], outputFile{Path: filepath.Join(s.dirs.Output, filepath.FromSlash(file.Path)), Type: file.Type})
		}
	}
	o.Receipt = filepath.Join(s.dirs.Output, filepath.FromSlash(done.Receipt))
	return o
}

// nodeError finds the node that an error is about.
func nodeError(err error) *engine.NodeError {
	var node *engine.NodeError
	errors.As(err, &node)
	return node
}
