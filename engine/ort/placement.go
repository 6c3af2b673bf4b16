package ort

/*
#include "api.h"

typedef struct {
	const char *provider, *name, *domain, *op;
} placed_node;

static void *placed_subgraphs(api_table api, void *session, void *const **subgraphs, size_t *count) {
	return ((void *(*)(void *, void *const **, size_t *))api[at_Session_GetEpGraphAssignmentInfo])(session, subgraphs, count);
}

static void *placed_nodes(api_table api, void *subgraph, void *const **nodes, size_t *count) {
	return ((void *(*)(void *, void *const **, size_t *))api[at_EpAssignedSubgraph_GetNodes])(subgraph, nodes, count);
}

typedef void *(*get_text)(void *, const char **);

static void *describe_node(api_table api, void *subgraph, void *node, placed_node *p) {
	void *status = ((get_text)api[at_EpAssignedSubgraph_GetEpName])(subgraph, &p->provider);
	if (!status) status = ((get_text)api[at_EpAssignedNode_GetName])(node, &p->name);
	if (!status) status = ((get_text)api[at_EpAssignedNode_GetDomain])(node, &p->domain);
	if (!status) status = ((get_text)api[at_EpAssignedNode_GetOperatorType])(node, &p->op);
	return status;
}
*/
import "C"

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unsafe"

	"github.com/comfyrun/comfyrun/engine/onnx"
)

// Placed tells which provider runs a node.
type Placed struct {
	Node, Op, Domain string
	Provider         string // "CPU", "CUDA" or "WebGpu"
}

// Placement lists which provider runs which node, sorted by provider and name:
// the graph's own nodes, without those that compute constants, and nodes that
// ONNX Runtime inserted to change a layout or a type. What it fuses later is
// listed in its parts, and copies between devices are not seen. The session
// must have been opened with Options.Placement.
func (s *Session) Placement() ([]Placed, error) {
	op := fmt.Sprintf("list placement of session %q", s.name)
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.session == nil {
		return nil, &Error{Op: op, Code: CodeInput, Message: "the session is closed"}
	}
	placed, err := s.recorded()
	if err != nil {
		return nil, wrap(op, CodeInput, s.provider, err)
	}
	seen := map[string]bool{}
	for _, p := range placed {
		seen[p.Node] = true
	}
	// A provider that changes the layout of tensors is asked twice, and what it
	// took the first time goes unrecorded.
	for _, p := range s.nodes {
		if !seen[p.Node] {
			placed = append(placed, p)
		}
	}
	slices.SortFunc(placed, func(a, b Placed) int {
		return cmp.Or(strings.Compare(a.Provider, b.Provider), strings.Compare(a.Node, b.Node))
	})
	return placed, nil
}

// variable lists the nodes of a graph that take part of an input, as if all
// ran on the device.
func variable(g *onnx.Graph, d Device) []Placed {
	varies := map[string]bool{}
	for _, in := range g.Inputs {
		varies[in.Name] = true
	}
	var nodes []Placed
	for _, n := range g.Nodes {
		if !slices.ContainsFunc(n.Inputs, func(in string) bool { return varies[in] }) {
			continue
		}
		for _, out := range n.Outputs {
			varies[out] = true
		}
		nodes = append(nodes, Placed{Node: n.Name, Op: n.Op, Domain: n.Domain, Provider: d.word()})
	}
	return nodes
}

// recorded returns what ONNX Runtime recorded.
func (s *Session) recorded() ([]Placed, error) {
	var subgraphs *unsafe.Pointer
	var count C.size_t
	if err := failed(s.env.api, C.placed_subgraphs(s.env.api, handleOf(s.session), &subgraphs, &count)); err != nil {
		return nil, err
	}
	var placed []Placed
	for _, subgraph := range unsafe.Slice(subgraphs, int(count)) {
		nodes, err := placedNodes(s.env.api, subgraph)
		if err != nil {
			return nil, err
		}
		placed = append(placed, nodes...)
	}
	return placed, nil
}

func placedNodes(api C.api_table, subgraph unsafe.Pointer) ([]Placed, error) {
	var nodes *unsafe.Pointer
	var count C.size_t
	if err := failed(api, C.placed_nodes(api, subgraph, &nodes, &count)); err != nil {
		return nil, err
	}
	var placed []Placed
	for _, node := range unsafe.Slice(nodes, int(count)) {
		var p C.placed_node
		if err := failed(api, C.describe_node(api, subgraph, node, &p)); err != nil {
			return nil, err
		}
		placed = append(placed, Placed{
			Node: C.GoString(p.name), Op: C.GoString(p.op), Domain: C.GoString(p.domain),
			Provider: strings.TrimSuffix(C.GoString(p.provider), "ExecutionProvider"),
		})
	}
	return placed, nil
}
