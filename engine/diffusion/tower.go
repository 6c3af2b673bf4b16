package diffusion

import (
	"context"
	"fmt"
	"os"

	"github.com/comfyrun/comfyrun/engine/arch"
	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/tokenizer"
	"github.com/comfyrun/comfyrun/engine/weights"
)

const (
	clipEnd        = 49407 // CLIP's end token
	tokenTable     = "text_model.embeddings.token_embedding.weight"
	positionTable  = "text_model.embeddings.position_embedding.weight"
	textProjection = "text_projection.weight"
)

// tower is one text encoder with the rules by which its family uses it.
type tower struct {
	arch.Text
	runtime *Runtime
	file    *weights.File
	net     *component
	width   int
	length  int // tokens of a chunk
}

func (r *Runtime) newTower(f *weights.File, text arch.Text, target nn.Target) (*tower, error) {
	tokens, ok1 := text.Weights.Lookup(tokenTable)
	positions, ok2 := text.Weights.Lookup(positionTable)
	if !ok1 || !ok2 || len(tokens.Shape) != 2 || len(positions.Shape) != 2 || tokens.Shape[1] != positions.Shape[1] {
		return nil, fmt.Errorf("text encoder %s: %s %v and %s %v do not make a table each",
			text.Name, tokenTable, tokens.Shape, positionTable, positions.Shape)
	}
	net, err := newComponent(component{
		name: text.Name, file: f, target: target, weights: text.Weights, variant: fmt.Sprintf("%+v", text.Net), roundF16: true,
		trace: func(t nn.Target, w nn.Weights) (*nn.Graph, error) {
			return t.Build("text encoder "+text.Name, arch.Tower(w), text.Net.Build)
		},
	})
	if err != nil {
		return nil, err
	}
	return &tower{Text: text, runtime: r, file: f, net: net, width: tokens.Shape[1], length: positions.Shape[0]}, nil
}

// tokens splits a prompt into chunks of tokens.
func (t *tower) tokens(prompt string) ([][]tokenizer.Token, error) {
	tok, err := t.runtime.tokenizer()
	if err != nil {
		return nil, err
	}
	var failed error
	chunks := tok.Encode(prompt, tokenizer.Options{Pad: t.Pad, Length: t.length, Width: t.width, Embedding: func(name string) ([][]float32, bool) {
		rows, ok, err := t.embedding(name)
		if err != nil {
			failed = err
		}
		return rows, ok
	}})
	return chunks, failed
}

// encode returns the weighted states of the chosen layer, [1, tokens, width],
// and the last layer's states, [chunks, tokens of a chunk, width].
func (t *tower) encode(ctx context.Context, chunks [][]tokenizer.Token) (text, last *tensor.Tensor, err error) {
	batch := chunks
	weighted := hasWeights(chunks)
	if weighted {
		empty, err := t.tokens("")
		if err != nil {
			return nil, nil, err
		}
		batch = append(batch[:len(batch):len(batch)], empty[0])
	}
	x, err := t.embed(batch)
	if err != nil {
		return nil, nil, err
	}
	out, err := t.runtime.pool.run(ctx, t.net, map[string]*tensor.Tensor{"embeds": x})
	if err != nil {
		return nil, nil, err
	}
	hidden := out["hidden"]
	if weighted {
		t.weigh(chunks, hidden)
	}
	tokens := len(chunks) * t.length
	return tensor.Of(hidden.Data[:tokens*t.width], 1, tokens, t.width), out["last"], nil
}

func hasWeights(chunks [][]tokenizer.Token) bool {
	for _, chunk := range chunks {
		for _, t := range chunk {
			if t.Weight != 1 {
				return true
			}
		}
	}
	return false
}

// embed looks tokens up and adds positions: [chunks, tokens, width].
func (t *tower) embed(chunks [][]tokenizer.Token) (*tensor.Tensor, error) {
	table, err := t.openTable(tokenTable)
	if err != nil {
		return nil, err
	}
	defer table.close()
	positions, err := t.openTable(positionTable)
	if err != nil {
		return nil, err
	}
	defer positions.close()
	x := tensor.New(len(chunks), t.length, t.width)
	position := make([]float32, t.width)
	for i, chunk := range chunks {
		for j, token := range chunk {
			row := x.Data[(i*t.length+j)*t.width:][:t.width]
			if token.Embedding != nil {
				copy(row, token.Embedding)
			} else if err := table.row(row, token.ID); err != nil {
				return nil, err
			}
			if err := positions.row(position, j); err != nil {
				return nil, err
			}
			for k, p := range position {
				row[k] += p
			}
		}
	}
	return x, nil
}

// weigh moves the states of weighted tokens away from (or towards) those of the
// empty prompt, which is the last row of hidden.
func (t *tower) weigh(chunks [][]tokenizer.Token, hidden *tensor.Tensor) {
	empty := hidden.Data[len(chunks)*t.length*t.width:]
	for i, chunk := range chunks {
		for j, token := range chunk {
			if token.Weight == 1 {
				continue
			}
			z := hidden.Data[(i*t.length+j)*t.width:][:t.width]
			for k, e := range empty[j*t.width:][:t.width] {
				z[k] = (z[k]-e)*token.Weight + e
			}
		}
	}
}

// endPosition returns the place of the first end token.
func endPosition(chunk []tokenizer.Token) int {
	for i, t := range chunk {
		if t.Embedding == nil && t.ID == clipEnd {
			return i
		}
	}
	return len(chunk) - 1
}

// pool takes the pooled vector out of the last layer's states of the first
// chunk and projects it where the file has a projection: [1, width].
func (t *tower) pool(last *tensor.Tensor, at int) (*tensor.Tensor, error) {
	state := last.Data[at*t.width:][:t.width]
	if _, ok := t.Weights.Lookup(textProjection); !ok {
		return tensor.Of(append([]float32{}, state...), 1, t.width), nil
	}
	w, err := t.net.kept(textProjection)
	if err != nil {
		return nil, err
	}
	if len(w.Shape) != 2 || w.Dim(1) != t.width {
		return nil, fmt.Errorf("text encoder %s: %s is %v, the tower is %d wide", t.Name, textProjection, w.Shape, t.width)
	}
	out := tensor.New(1, w.Dim(0))
	for i := range out.Data {
		var sum float32
		for k, v := range w.Data[i*t.width:][:t.width] {
			sum += v * state[k]
		}
		out.Data[i] = sum
	}
	return out, nil
}

func roundHalf(data []float32) {
	for i, v := range data {
		data[i] = tensor.F16ToF32(tensor.F32ToF16(v))
	}
}

// table reads single rows of a large tensor.
type table struct {
	file *os.File
	info weights.Info
	buf  []byte
	data []float32 // all rows, of a table that steps changed
}

func (t *tower) openTable(name string) (*table, error) {
	if t.net.isChanged(name) {
		w, err := t.net.kept(name)
		if err != nil {
			return nil, err
		}
		return &table{info: weights.Info{Name: name, Shape: w.Shape}, data: w.Data}, nil
	}
	src, _ := t.Weights.Lookup(name)
	info, ok := t.file.Tensor(src.From[0])
	if !ok {
		return nil, fmt.Errorf("read %s: no such tensor in %s", name, t.file.Path)
	}
	f, err := os.Open(t.file.Path)
	if err != nil {
		return nil, err
	}
	return &table{file: f, info: info, buf: make([]byte, info.Shape[1]*info.DType.Size())}, nil
}

func (t *table) close() {
	if t.file != nil {
		t.file.Close()
	}
}

// row reads row i into dst, float32 rows rounded to half precision as text
// encoders are stored.
func (t *table) row(dst []float32, i int) error {
	if i < 0 || i >= t.info.Shape[0] {
		return fmt.Errorf("read %s: row %d of %d", t.info.Name, i, t.info.Shape[0])
	}
	if t.data != nil {
		copy(dst, t.data[i*len(dst):])
		return nil
	}
	if _, err := t.file.ReadAt(t.buf, t.info.Offset+int64(i*len(t.buf))); err != nil {
		return fmt.Errorf("read %s: %w", t.info.Name, err)
	}
	if err := tensor.Decode(dst, t.buf, t.info.DType); err != nil {
		return err
	}
	if t.info.DType == tensor.F32 {
		roundHalf(dst)
	}
	return nil
}
