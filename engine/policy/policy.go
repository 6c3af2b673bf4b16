// Package policy bounds what workflows may do: which node types and models they
// may use, how large pictures and batches get, how many steps they sample.
//
// # Vocabulary
//
// A Policy is what the operator of a server allows, written as TOML. A rule is
// one of its lines; a violation is one place of a workflow that breaks a rule,
// an engine.NodeError of the kind Violation. Check finds all violations that a
// plan shows, before anything runs; Guard binds those rules again while nodes
// run, for values that come over links. A pattern is a name with * for any run
// of characters (also none, also with / in it) and ? for one character; case counts.
//
// # What is bound where
//
// Node types, models, number of nodes, size of the request and all literals are
// checked by Check. A width that is linked to another node is not known then:
// Guard checks it when the node is called, before it does its work. Pictures
// whose size follows from other pictures (scaled by a factor or by a model, or
// loaded from a file) are measured by Guard when the node has made them. Not
// bound are latents that grow by a factor, batches that nodes put together out
// of smaller ones, and embeddings that a prompt's text names.
package policy

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Policy is what is allowed. The zero Policy, and a nil one, allow everything.
type Policy struct {
	Nodes  Names  `toml:"nodes"`  // class names
	Models Names  `toml:"models"` // folder/name, as in models.lock: checkpoints/sd15.safetensors
	Limits Limits `toml:"limits"`
	// Tokens are the quotas of tokens by name; "*" is for all that have none of their own.
	Tokens map[string]Quota `toml:"tokens"`
}

// Names are patterns: a name is allowed when it fits one of Allow, or Allow is
// empty, and none of Deny.
type Names struct {
	Allow []string `toml:"allow"`
	Deny  []string `toml:"deny"`
}

// Limits bound single values; 0: no bound.
type Limits struct {
	Megapixels  float64 `toml:"megapixels"` // width times height, in units of 1024*1024 pixels
	Steps       int     `toml:"steps"`
	Batch       int     `toml:"batch"`
	Nodes       int     `toml:"nodes"`        // of one workflow
	PromptBytes int     `toml:"prompt_bytes"` // of the body of POST /prompt
}

// Quota bounds what one token may have at a time.
type Quota struct {
	Queued int `toml:"queued"` // prompts that wait or run; 0: no bound
}

// Parse reads a policy. Unknown keys, negative bounds and empty patterns are
// errors, so that a typo does not open a server.
func Parse(data []byte) (*Policy, error) {
	p := &Policy{}
	d := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	if err := d.Decode(p); err != nil {
		var strict *toml.StrictMissingError
		if errors.As(err, &strict) {
			return nil, fmt.Errorf("parse policy: unknown keys:\n%s", strict.String())
		}
		return nil, fmt.Errorf("parse policy: %w", err)
	}
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("parse policy: %w", err)
	}
	return p, nil
}

// Load reads a policy file.
func Load(path string) (*Policy, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("load policy: %w", err)
	}
	p, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", path, err)
	}
	return p, nil
}

func (p *Policy) check() error {
	l := p.Limits
	if l.Megapixels < 0 || math.IsNaN(l.Megapixels) || math.IsInf(l.Megapixels, 0) {
		return fmt.Errorf("limits.megapixels is %v, must be a number from 0 on", l.Megapixels)
	}
	for _, bound := range []struct {
		name  string
		value int
	}{{"steps", l.Steps}, {"batch", l.Batch}, {"nodes", l.Nodes}, {"prompt_bytes", l.PromptBytes}} {
		if bound.value < 0 {
			return fmt.Errorf("limits.%s is %d, must be 0 (no bound) or more", bound.name, bound.value)
		}
	}
	for name, q := range p.Tokens {
		if q.Queued < 0 {
			return fmt.Errorf("tokens.%s.queued is %d, must be 0 (no bound) or more", name, q.Queued)
		}
	}
	for _, n := range []Names{p.Nodes, p.Models} {
		for _, pattern := range append(append([]string{}, n.Allow...), n.Deny...) {
			if pattern == "" {
				return errors.New("an empty pattern fits nothing: leave it out, or write *")
			}
		}
	}
	return nil
}

// Queued is how many prompts the token may have waiting and running at a time; 0: no bound.
func (p *Policy) Queued(token string) int {
	if p == nil {
		return 0
	}
	if q, ok := p.Tokens[token]; ok {
		return q.Queued
	}
	return p.Tokens["*"].Queued
}

// refuses says why a name is not allowed; "": it is.
func (n Names) refuses(name string) string {
	for _, pattern := range n.Deny {
		if Match(pattern, name) {
			return fmt.Sprintf("%s is denied (by %s)", name, pattern)
		}
	}
	for _, pattern := range n.Allow {
		if Match(pattern, name) {
			return ""
		}
	}
	if len(n.Allow) == 0 {
		return ""
	}
	return fmt.Sprintf("%s is not allowed; allowed: %s", name, strings.Join(n.Allow, ", "))
}

// Match reports whether a name fits a pattern. It takes time linear in the product of their lengths at most.
func Match(pattern, name string) bool {
	p, n := 0, 0
	star, again := -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, again = p, n
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == name[n]):
			p++
			n++
		case star >= 0:
			again++
			p, n = star+1, again
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
