package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/nodes"
	"github.com/comfyrun/comfyrun/nodes/definitions"
	"github.com/comfyrun/comfyrun/workflows"
)

// nodeFlags are the flags that say which node classes there are beside the built-in ones; every command that makes a
// catalogue has them.
type nodeFlags struct {
	folders pathsFlag
	named   bool // home's own folder does not count
}

func (f *nodeFlags) add(cmd *cobra.Command) {
	cmd.Flags().Var(&f.folders, "nodes", "folder of node definitions, *"+definitions.Suffix+"; may be repeated (default home's nodes)")
}

// catalog makes a catalogue with the classes of the folders.
func (f *nodeFlags) catalog(home Home, r *nodes.Runtime) (*engine.Catalog, *definitions.Set, error) {
	catalog, err := nodes.Catalog(r)
	if err != nil {
		return nil, nil, err
	}
	defined, err := f.define(home, catalog)
	return catalog, defined, err
}

// define adds the classes of the folders to a catalogue. Without folders it is home's own, if there is one.
func (f *nodeFlags) define(home Home, catalog *engine.Catalog) (*definitions.Set, error) {
	folders := []string(f.folders)
	if len(folders) == 0 && f.named {
		return nil, nil
	}
	if len(folders) == 0 {
		if _, err := os.Stat(home.Nodes()); os.IsNotExist(err) {
			return nil, nil
		}
		folders = []string{home.Nodes()}
	}
	set, err := definitions.Load(catalog, folders...)
	return set, asUsage(err)
}

// checkInside plans a workflow as it is written out, so that what its defined nodes hold is checked before anything
// runs, files included: a definition may name a model that is not on this machine.
func (s *session) checkInside(g *workflows.Graph) error {
	written, err := s.defined.WriteOut(g)
	if err != nil || written == g {
		return asUsage(err)
	}
	plan, err := engine.NewPlan(written, s.catalog, engine.PlanOptions{})
	if err == nil && plan.Invalid != nil {
		err = plan.Invalid
	}
	if invalid := (*engine.InvalidError)(nil); errors.As(err, &invalid) {
		s.nameMissing(written, invalid)
		for _, e := range invalid.Errors {
			if outer := around(g, e.Node); outer != nil {
				e.Err = fmt.Errorf("%w (inside of node %s, %s)", e.Err, outer.ID, outer.Class)
			}
		}
	}
	return err
}

// around returns the node of a workflow that a node of the written out one stands for; nil when it is that itself.
func around(g *workflows.Graph, id string) *workflows.Node {
	for i := len(id) - 1; i > 0; i-- {
		if n := g.Node(id[:i]); id[i] == ':' && n != nil && g.Node(id) == nil {
			return n
		}
	}
	return nil
}
