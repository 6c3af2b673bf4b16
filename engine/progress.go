package engine

import (
	"context"
	"fmt"
)

// scope is what the runner puts into the context of a node's function.
type scope struct {
	node       string
	call       int // index of the call in a list mapping
	expansions int // how many expansions this call started
	progress   func(value, total int, preview any)
	warn       func(text string)
}

type scopeKey struct{}

func withScope(ctx context.Context, s *scope) context.Context {
	return context.WithValue(ctx, scopeKey{}, s)
}

// Progress tells how far the running node is: step value of total. Outside a
// node it does nothing.
func Progress(ctx context.Context, value, total int) { Preview(ctx, value, total, nil) }

// Preview is Progress with a picture (or whatever the events' reader knows) of
// the state so far.
func Preview(ctx context.Context, value, total int, preview any) {
	if s, ok := ctx.Value(scopeKey{}).(*scope); ok && s.progress != nil {
		s.progress(value, total, preview)
	}
}

// Warn tells people something about what the running node was given that they
// may not expect, and does not stop it. Outside a node it does nothing.
func Warn(ctx context.Context, text string) {
	if s, ok := ctx.Value(scopeKey{}).(*scope); ok && s.warn != nil {
		s.warn(text)
	}
}

// NodeID is the id of the node whose function runs with ctx, or empty.
func NodeID(ctx context.Context) string {
	if s, ok := ctx.Value(scopeKey{}).(*scope); ok {
		return s.node
	}
	return ""
}

func nextPrefix(ctx context.Context) string {
	s, ok := ctx.Value(scopeKey{}).(*scope)
	if !ok {
		return ""
	}
	s.expansions++
	return fmt.Sprintf("%s.%d.%d.", s.node, s.call, s.expansions-1)
}
