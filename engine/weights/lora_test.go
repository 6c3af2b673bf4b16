package weights

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/google/go-cmp/cmp"
)

// loraFile writes a LoRA file of float32 tensors and opens it.
func loraFile(t *testing.T, tensors map[string]*tensor.Tensor) *LoRA {
	t.Helper()
	header := map[string]any{}
	var data bytes.Buffer
	for _, name := range sortedKeys(tensors) {
		begin := data.Len()
		if err := binary.Write(&data, binary.LittleEndian, tensors[name].Data); err != nil {
			t.Fatal(err)
		}
		header[name] = map[string]any{
			"dtype": "F32", "shape": append([]int{}, tensors[name].Shape...), "data_offsets": []int{begin, data.Len()},
		}
	}
	text, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	out := append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)
	path := filepath.Join(t.TempDir(), "lora.safetensors")
	if err := os.WriteFile(path, append(out, data.Bytes()...), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := OpenLoRA(path)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func vector(v ...float32) *tensor.Tensor               { return tensor.Of(v, len(v)) }
func scalar(v float32) *tensor.Tensor                  { return tensor.Of([]float32{v}) }
func mat(rows int, v ...float32) *tensor.Tensor        { return tensor.Of(v, rows, len(v)/rows) }
func shaped(t *tensor.Tensor, s ...int) *tensor.Tensor { return tensor.Of(t.Data, s...) }

// TestChanges computes each kind of change on small weights by hand.
func TestChanges(t *testing.T) {
	w := mat(2, 1, 2, 3, 4)
	up, down := mat(2, 1, 2), mat(1, 3, 5) // product: 3 5 / 6 10
	cases := []struct {
		name     string
		tensors  map[string]*tensor.Tensor
		weight   *tensor.Tensor
		strength float64
		want     []float32
	}{
		{"kohya", map[string]*tensor.Tensor{"x.lora_up.weight": up, "x.lora_down.weight": down, "x.alpha": scalar(0.5)}, w, 2,
			[]float32{4, 7, 9, 14}},
		{"no alpha", map[string]*tensor.Tensor{"x.lora_up.weight": up, "x.lora_down.weight": down}, w, 1, []float32{4, 7, 9, 14}},
		{"processor", map[string]*tensor.Tensor{"x_lora.up.weight": up, "x_lora.down.weight": down}, w, -1, []float32{-2, -3, -3, -6}},
		{"PEFT", map[string]*tensor.Tensor{"x.lora_B.weight": up, "x.lora_A.weight": down}, w, 1, []float32{4, 7, 9, 14}},
		{"PEFT parameter", map[string]*tensor.Tensor{"x.lora_B": up, "x.lora_A": down}, w, 1, []float32{4, 7, 9, 14}},
		{"PEFT adapter", map[string]*tensor.Tensor{"x.lora_B.default.weight": up, "x.lora_A.default.weight": down}, w, 1, []float32{4, 7, 9, 14}},
		{"diffusers", map[string]*tensor.Tensor{"x.lora.up.weight": up, "x.lora.down.weight": down}, w, 1, []float32{4, 7, 9, 14}},
		{"linear layer", map[string]*tensor.Tensor{
			"x.lora_linear_layer.up.weight": up, "x.lora_linear_layer.down.weight": down}, w, 1, []float32{4, 7, 9, 14}},
		{"convolution", map[string]*tensor.Tensor{
			"x.lora_up.weight": shaped(up, 2, 1, 1, 1), "x.lora_down.weight": shaped(down, 1, 1, 1, 2)},
			shaped(w, 2, 1, 1, 2), 1, []float32{4, 7, 9, 14}},
		// down' = mid·down over the kernel: mid [1,1,1,2] = 2 3, down [1,1] = 5.
		{"middle", map[string]*tensor.Tensor{
			"x.lora_up.weight": shaped(up, 2, 1, 1, 1), "x.lora_down.weight": tensor.Full(5, 1, 1, 1, 1),
			"x.lora_mid.weight": shaped(vector(2, 3), 1, 1, 1, 2)}, shaped(w, 2, 1, 1, 2), 1, []float32{11, 17, 23, 34}},
		{"LoHa", map[string]*tensor.Tensor{
			"x.hada_w1_a": up, "x.hada_w1_b": down, "x.hada_w2_a": mat(2, 1, 1), "x.hada_w2_b": mat(1, 2, 3), "x.alpha": scalar(1)},
			w, 1, []float32{1 + 6, 2 + 15, 3 + 12, 4 + 30}},
		// Core [1,1,1,2] = 1 2: each half is a·b at both places of the kernel.
		{"LoHa with a core", map[string]*tensor.Tensor{
			"x.hada_w1_a": mat(1, 1, 2), "x.hada_w1_b": mat(1, 3), "x.hada_t1": shaped(vector(1, 2), 1, 1, 1, 2),
			"x.hada_w2_a": mat(1, 1, 1), "x.hada_w2_b": mat(1, 1), "x.hada_t2": shaped(vector(1, 1), 1, 1, 1, 2)},
			shaped(w, 2, 1, 1, 2), 1, []float32{4, 8, 9, 16}},
		// No factors: alpha does not count.
		{"LoKr", map[string]*tensor.Tensor{"x.lokr_w1": mat(2, 1, 2), "x.lokr_w2": mat(1, 3, 5), "x.alpha": scalar(9)}, w, 1,
			[]float32{4, 7, 9, 14}},
		{"LoKr with factors", map[string]*tensor.Tensor{
			"x.lokr_w1": mat(2, 1, 2), "x.lokr_w2_a": mat(1, 1, 1), "x.lokr_w2_b": mat(2, 3, 5, 0, 0), "x.alpha": scalar(4)},
			w, 1, []float32{7, 12, 15, 24}},
		{"GLoRA", map[string]*tensor.Tensor{
			"x.a1.weight": mat(2, 1, 0), "x.a2.weight": mat(1, 0, 1), "x.b1.weight": up, "x.b2.weight": down},
			// W·a1·a2 = first column of W in the second place.
			w, 1, []float32{1 + 3, 2 + 5 + 1, 3 + 6, 4 + 10 + 3}},
		{"diff", map[string]*tensor.Tensor{"x.diff": mat(2, 1, 1, 1, 1)}, w, 0.5, []float32{1.5, 2.5, 3.5, 4.5}},
		{"norm", map[string]*tensor.Tensor{"x.w_norm": vector(1, 1)}, vector(1, 2), 2, []float32{3, 4}},
		{"set", map[string]*tensor.Tensor{"x.set_weight": mat(2, 9, 8, 7, 6)}, w, 0.5, []float32{9, 8, 7, 6}},
		{"reshape", map[string]*tensor.Tensor{
			"x.lora_up.weight": tensor.Full(1, 3, 1), "x.lora_down.weight": tensor.Full(1, 1, 3), "x.reshape_weight": vector(3, 3)},
			w, 1, []float32{2, 3, 1, 4, 5, 1, 1, 1, 1}},
		// Rows of W have lengths 5 and 13; V = W + up·down.
		{"DoRA by rows", map[string]*tensor.Tensor{
			"x.lora_up.weight": up, "x.lora_down.weight": down, "x.dora_scale": shaped(vector(10, 26), 2, 1)},
			mat(2, 3, 4, 5, 12), 1, []float32{12, 18, 22, 44}},
		// Columns of V = (3 0 / 4 1) have lengths 5 and 1; half of the way.
		{"DoRA by columns", map[string]*tensor.Tensor{
			"x.lora_up.weight": mat(2, 0, 1), "x.lora_down.weight": mat(1, 1, 1), "x.dora_scale": mat(1, 10, 3)},
			mat(2, 3, 0, 3, 0), 0.5, []float32{4.5, 0, 5.5, 1.5}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			l := loraFile(t, c.tensors)
			changes, used := l.Match(map[string]Target{"x": {Weight: "w.weight"}})
			if len(used) != len(c.tensors) || changes[Target{Weight: "w.weight"}] == nil {
				t.Fatalf("used %v, found %v", used, changes)
			}
			got, err := changes[Target{Weight: "w.weight"}].Apply(c.weight.Clone(), c.strength)
			if err != nil {
				t.Fatal(err)
			}
			closeTo(t, got.Data, c.want)
		})
	}
}

func closeTo(t *testing.T, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d elements, want %d", len(got), len(want))
	}
	for i := range want {
		if math.Abs(float64(got[i]-want[i])) > 1e-5 {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
}

// TestFactors checks that the factors of a change give what Apply adds.
func TestFactors(t *testing.T) {
	l := loraFile(t, map[string]*tensor.Tensor{
		"x.lora_up.weight": mat(2, 1, 2), "x.lora_down.weight": mat(1, 3, 5), "x.alpha": scalar(0.5),
	})
	changes, _ := l.Match(map[string]Target{"x": {Weight: "w.weight"}})
	c := changes[Target{Weight: "w.weight"}]
	up, down, err := c.Factors(tensor.Shape{2, 2})
	if err != nil {
		t.Fatal(err)
	}
	closeTo(t, matmul(up, down).Data, []float32{1.5, 2.5, 3, 5})
	if !c.Additive() {
		t.Error("a plain product is not additive")
	}
	if _, _, err := c.Factors(tensor.Shape{3, 2}); err == nil {
		t.Error("factors fit any weight")
	}
}

// TestMatch checks what becomes of biases and of names that mean nothing.
func TestMatch(t *testing.T) {
	l := loraFile(t, map[string]*tensor.Tensor{
		"a.diff": vector(1), "a.diff_b": vector(2), "d.diff_b": vector(1), "a.alpha": vector(1), "b.hada_w1_a": vector(1), "c.lora_up.weight": vector(1),
	})
	changes, used := l.Match(map[string]Target{"a": {Weight: "m.weight"}, "b": {Weight: "n.weight"}, "d": {"p.weight", 1, 3}})
	for _, want := range []Target{{Weight: "m.bias"}, {Weight: "m.weight"}, {"p.bias", 1, 3}} {
		if changes[want] == nil {
			t.Errorf("no change of %v", want)
		}
	}
	if len(changes) != 3 {
		t.Errorf("%d changes, want 3", len(changes))
	}
	if lo, hi := (Target{"p.bias", 1, 3}).Rows(12); lo != 4 || hi != 8 {
		t.Errorf("the second third of 12 rows is %d to %d", lo, hi)
	}
	if diff := cmp.Diff([]string{"a.alpha", "b.hada_w1_a", "c.lora_up.weight"}, l.Unused(used)); diff != "" {
		t.Error(diff)
	}
}

// TestWrongShapes checks that changes which do not fit are refused, by name.
func TestWrongShapes(t *testing.T) {
	v, m := vector(1, 2, 3), mat(1, 1, 2, 3)
	for name, tensors := range map[string]map[string]*tensor.Tensor{
		"product":    {"x.lora_up.weight": m, "x.lora_down.weight": m},
		"middle":     {"x.lora_up.weight": m, "x.lora_down.weight": m, "x.lora_mid.weight": v},
		"LoHa":       {"x.hada_w1_a": m, "x.hada_w1_b": m, "x.hada_w2_a": m, "x.hada_w2_b": v},
		"LoHa core":  {"x.hada_w1_a": v, "x.hada_w1_b": v, "x.hada_w2_a": v, "x.hada_w2_b": v, "x.hada_t1": m},
		"LoKr":       {"x.lokr_w1": m, "x.lokr_w2": m},
		"LoKr half":  {"x.lokr_w1": m},
		"GLoRA":      {"x.a1.weight": m, "x.a2.weight": v, "x.b1.weight": m, "x.b2.weight": scalar(1)},
		"diff":       {"x.diff": v},
		"set":        {"x.set_weight": v},
		"reshape":    {"x.lora_up.weight": mat(2, 1, 1), "x.lora_down.weight": mat(1, 1, 1), "x.reshape_weight": vector(1, 1)},
		"magnitudes": {"x.lora_up.weight": mat(2, 1, 1), "x.lora_down.weight": mat(1, 1, 1), "x.dora_scale": v},
	} {
		t.Run(name, func(t *testing.T) {
			changes, _ := loraFile(t, tensors).Match(map[string]Target{"x": {Weight: "w.weight"}})
			for _, w := range []*tensor.Tensor{tensor.New(2, 2), tensor.New(2)} {
				if _, err := changes[Target{Weight: "w.weight"}].Apply(w, 1); err == nil {
					t.Errorf("fits a weight of %v", w.Shape)
				}
			}
		})
	}
}
