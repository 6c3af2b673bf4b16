package weights

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// LoRA is a file of changes to the weights of a model: low-rank products in
// most files (Hu et al., LoRA, 2021), other factorisations, differences or
// whole weights in some.
//
// A file names what it changes by a base name ("lora_unet_mid_block_…"), of
// which there are several spellings for each weight, and tells by suffixes of
// the base name what the change is (".lora_up.weight", ".hada_w1_a").
type LoRA struct {
	file *File
}

// OpenLoRA reads the header of a LoRA file.
func OpenLoRA(path string) (*LoRA, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	return &LoRA{file: f}, nil
}

// Path returns the canonical path of the file.
func (l *LoRA) Path() string { return l.file.Path }

// Target is a weight, or one of several parts of equal height that lie one
// above the other in it: the queries of a joint projection, say.
type Target struct {
	Weight string
	// Part counts from 0; Parts is how many there are, 0 for a whole weight.
	Part, Parts int
}

// Rows returns the rows that the target has of a weight of the given height.
func (t Target) Rows(height int) (lo, hi int) {
	if t.Parts == 0 {
		return 0, height
	}
	n := height / t.Parts
	return t.Part * n, (t.Part + 1) * n
}

// Match finds what the file has for a model. keys tells what each base name
// means (UNetKeys, CLIPKeys). Where several base names of one target occur, the
// last in alphabetical order counts. used lists the file's tensors that were
// understood, sorted.
func (l *LoRA) Match(keys map[string]Target) (changes map[Target]*Change, used []string) {
	changes = map[Target]*Change{}
	seen := map[string]bool{}
	for _, base := range sortedKeys(keys) {
		for target, c := range l.changes(base, keys[base], seen) {
			changes[target] = c
		}
	}
	for name := range seen {
		used = append(used, name)
	}
	slices.Sort(used)
	return changes, used
}

// Unused lists the file's tensors that are not among used, sorted: changes to
// weights that the models do not have, or of a kind that is not known.
func (l *LoRA) Unused(used ...[]string) []string {
	var rest []string
	all := slices.Concat(used...)
	slices.Sort(all)
	for _, name := range l.file.names {
		if _, ok := slices.BinarySearch(all, name); !ok {
			rest = append(rest, name)
		}
	}
	return rest
}

// changes returns the changes that a base name stands for: one of the weight
// itself, perhaps one of the bias beside it. It notes the tensors it met in
// seen.
func (l *LoRA) changes(base string, weight Target, seen map[string]bool) map[Target]*Change {
	out := map[Target]*Change{}
	bias := weight
	if stem, ok := strings.CutSuffix(weight.Weight, ".weight"); ok {
		bias.Weight = stem + ".bias"
	}
	for _, f := range formats {
		c := f.find(l.file, base, seen)
		if c == nil {
			continue
		}
		target := weight
		if f.bias {
			target = bias
		}
		if have := out[target]; have == nil || f.overrides {
			out[target] = c
		}
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// format is one way to write a change: tensors named base+suffix, in roles.
type format struct {
	kind      changeKind
	roles     map[string]string // role -> suffix, all needed
	extras    map[string]string // role -> suffix, where the file has them
	any       []string          // of these extras at least one set of names, divided by spaces, is needed
	bias      bool              // changes the bias beside the weight
	overrides bool              // counts where an earlier format was found too
}

// common are the extras of every factorised change.
func common(more ...string) map[string]string {
	m := map[string]string{"alpha": ".alpha", "dora": ".dora_scale", "reshape": ".reshape_weight"}
	for i := 0; i < len(more); i += 2 {
		m[more[i]] = more[i+1]
	}
	return m
}

// plain is the format of a product of two matrices.
func plain(up, down string) format {
	return format{kind: lowRank, roles: map[string]string{"up": up, "down": down}, extras: common("mid", ".lora_mid.weight")}
}

// formats lists every way to write a change, in the order of preference.
var formats = []format{
	plain(".lora_up.weight", ".lora_down.weight"),                           // kohya
	plain("_lora.up.weight", "_lora.down.weight"),                           // diffusers, attention processors
	plain(".lora_B.weight", ".lora_A.weight"),                               // PEFT
	plain(".lora.up.weight", ".lora.down.weight"),                           // diffusers
	plain(".lora_B", ".lora_A"),                                             // PEFT, bare parameters
	plain(".lora_linear_layer.up.weight", ".lora_linear_layer.down.weight"), // diffusers, text encoders
	plain(".lora_B.default.weight", ".lora_A.default.weight"),               // PEFT with an adapter's name
	{kind: hadamard, extras: common("t1", ".hada_t1", "t2", ".hada_t2"), roles: map[string]string{
		"w1a": ".hada_w1_a", "w1b": ".hada_w1_b", "w2a": ".hada_w2_a", "w2b": ".hada_w2_b",
	}},
	{kind: kronecker, any: []string{"w1", "w1a w1b", "w2", "w2a w2b"}, extras: common(
		"w1", ".lokr_w1", "w1a", ".lokr_w1_a", "w1b", ".lokr_w1_b",
		"w2", ".lokr_w2", "w2a", ".lokr_w2_a", "w2b", ".lokr_w2_b", "t2", ".lokr_t2")},
	{kind: generalised, extras: common(), roles: map[string]string{
		"a1": ".a1.weight", "a2": ".a2.weight", "b1": ".b1.weight", "b2": ".b2.weight",
	}},
	{kind: difference, roles: map[string]string{"diff": ".w_norm"}, overrides: true},
	{kind: difference, roles: map[string]string{"diff": ".b_norm"}, overrides: true, bias: true},
	{kind: difference, roles: map[string]string{"diff": ".diff"}, overrides: true},
	{kind: difference, roles: map[string]string{"diff": ".diff_b"}, overrides: true, bias: true},
	{kind: replacement, roles: map[string]string{"set": ".set_weight"}, overrides: true},
}

// find returns the change of this format that the file has under a base name,
// nil when it has none.
func (f *format) find(file *File, base string, seen map[string]bool) *Change {
	have := map[string]string{}
	for role, suffix := range f.roles {
		if _, ok := file.tensors[base+suffix]; !ok {
			return nil
		}
		have[role] = base + suffix
	}
	for role, suffix := range f.extras {
		if _, ok := file.tensors[base+suffix]; ok {
			have[role] = base + suffix
		}
	}
	if f.any != nil && !slices.ContainsFunc(f.any, func(set string) bool { return holds(have, set) }) {
		return nil
	}
	for _, name := range have {
		seen[name] = true
	}
	return &Change{kind: f.kind, file: file, base: base, names: have}
}

// holds reports whether all roles of a set, divided by spaces, are there.
func holds(have map[string]string, set string) bool {
	for _, role := range strings.Fields(set) {
		if have[role] == "" {
			return false
		}
	}
	return true
}

// changeKind is a way to compute a change.
type changeKind int

const (
	lowRank     changeKind = iota // up·down, perhaps with a middle
	hadamard                      // LoHa: (w1a·w1b)⊙(w2a·w2b)
	kronecker                     // LoKr: w1⊗w2
	generalised                   // GLoRA: b1·b2 + W·a1·a2
	difference                    // W + diff
	replacement                   // set_weight
)

// Change computes a new weight from an old one. The tensors it needs are read
// from its file at each use.
type Change struct {
	kind  changeKind
	file  *File
	base  string
	names map[string]string // role -> tensor
}

// Additive reports whether the change adds a product of two matrices that does
// not depend on the weight, so that Factors gives all of it.
func (c *Change) Additive() bool {
	return c.kind == lowRank && c.names["dora"] == "" && c.names["reshape"] == ""
}

// Rank returns the rank of an additive change.
func (c *Change) Rank() int {
	if s := c.file.tensors[c.names["down"]].Shape; len(s) > 0 {
		return s[0]
	}
	return 1
}

// Tensors returns the names of the file's tensors that make the change, sorted.
func (c *Change) Tensors() []string {
	return slices.Sorted(maps.Values(c.names))
}

// Fits reports whether the change is for a weight of the given shape, as far as
// the file's header tells.
func (c *Change) Fits(shape tensor.Shape) bool {
	size := func(role string) int { return c.file.tensors[c.names[role]].Shape.Elements() }
	switch {
	case c.kind == lowRank && c.names["mid"] == "" && c.names["reshape"] == "":
		rank := max(c.Rank(), 1)
		return size("up")/rank*(size("down")/rank) == shape.Elements() && len(shape) > 1
	case c.kind == difference:
		return size("diff") == shape.Elements()
	case c.kind == replacement:
		return c.file.tensors[c.names["set"]].Shape.Equal(shape)
	}
	return len(shape) > 1
}

// Shape returns the shape of the new weight for an old one of the given shape.
func (c *Change) Shape(old tensor.Shape) (tensor.Shape, error) {
	if c.names["reshape"] == "" {
		return old, nil
	}
	t, err := c.read("reshape")
	if err != nil {
		return nil, err
	}
	var shape tensor.Shape
	for _, d := range t.Data {
		shape = append(shape, int(d))
	}
	return shape, nil
}

// read returns a tensor by its role, nil when the change has none.
func (c *Change) read(role string) (*tensor.Tensor, error) {
	name := c.names[role]
	if name == "" {
		return nil, nil
	}
	return c.file.Read(name)
}

// readAll returns all tensors by role.
func (c *Change) readAll() (map[string]*tensor.Tensor, error) {
	t := map[string]*tensor.Tensor{}
	for role := range c.names {
		var err error
		if t[role], err = c.read(role); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// fail wraps an error with what the change is.
func (c *Change) fail(format string, args ...any) error {
	return fmt.Errorf("%s: %s: %w", c.file.Path, c.base, fmt.Errorf(format, args...))
}
