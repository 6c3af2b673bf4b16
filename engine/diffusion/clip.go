package diffusion

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/comfyrun/comfyrun/engine/arch"
	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/tokenizer"
	"github.com/comfyrun/comfyrun/engine/weights"
)

const (
	clipEnd        = 49407 // CLIP's end token, with which CLIP-L also pads
	clipHeadWidth  = 64
	tokenTable     = "text_model.embeddings.token_embedding.weight"
	positionTable  = "text_model.embeddings.position_embedding.weight"
	textProjection = "text_projection.weight"
)

// CLIP encodes prompts.
type CLIP struct {
	runtime *Runtime
	file    *weights.File
	weights nn.Weights
	tower   *component
	stop    int // the layer whose output is used, from the end
	width   int
	length  int // tokens of a chunk
}

// newCLIP traces the text tower; w nil gives nil.
func (r *Runtime) newCLIP(f *weights.File, w nn.Weights) (*CLIP, error) {
	if w == nil {
		return nil, nil
	}
	c := &CLIP{runtime: r, file: f, weights: w}
	tokens, ok1 := w.Lookup(tokenTable)
	positions, ok2 := w.Lookup(positionTable)
	if !ok1 || !ok2 || len(tokens.Shape) != 2 || len(positions.Shape) != 2 || tokens.Shape[1] != positions.Shape[1] {
		return nil, fmt.Errorf("text encoder: %s %v and %s %v do not make a table each",
			tokenTable, tokens.Shape, positionTable, positions.Shape)
	}
	c.width, c.length = tokens.Shape[1], positions.Shape[0]
	return c.WithLayer(-1)
}

// WithLayer returns the encoder with the output of another layer, counted from
// the end: -1 is the last layer, -2 the one before ("clip skip 2").
func (c *CLIP) WithLayer(stop int) (*CLIP, error) {
	graph, err := nn.Build("CLIP text encoder", arch.Tower(c.weights), arch.CLIPText{HeadWidth: clipHeadWidth, Stop: stop}.Build)
	if err != nil {
		return nil, err
	}
	n := *c
	n.stop = stop
	n.tower = newComponent("clip", c.file, graph)
	n.tower.variant, n.tower.roundF16 = strconv.Itoa(stop), true
	return &n, nil
}

// Digest identifies the encoder by the content of its file and its layer.
func (c *CLIP) Digest() string { return c.tower.digest(c.runtime.options.Digests) }

// File returns the path of the file that the encoder comes from.
func (c *CLIP) File() string { return c.file.Path }

// Encode turns a prompt into a Conditioning of one entry. Its text is [1,
// 77·chunks, width]; tokens with a weight other than 1 are moved away from the
// state of an empty prompt by that factor. The pooled vector is the last
// layer's state at the first end token of the first chunk.
func (c *CLIP) Encode(ctx context.Context, prompt string) (Conditioning, error) {
	tok, err := c.runtime.tokenizer()
	if err != nil {
		return nil, err
	}
	var failed error
	chunks := tok.Encode(prompt, tokenizer.Options{Pad: clipEnd, Length: c.length, Width: c.width, Embedding: func(name string) ([][]float32, bool) {
		rows, ok, err := c.embedding(name)
		if err != nil {
			failed = err
		}
		return rows, ok
	}})
	if failed != nil {
		return nil, failed
	}
	weighted := hasWeights(chunks)
	if weighted {
		chunks = append(chunks, tok.Encode("", tokenizer.Options{Pad: clipEnd, Length: c.length, Width: c.width})[0])
	}
	hidden, last, err := c.states(ctx, chunks)
	if err != nil {
		return nil, err
	}
	if weighted {
		chunks = chunks[:len(chunks)-1]
		c.weigh(chunks, hidden)
	}
	text := tensor.Of(hidden.Data[:len(chunks)*c.length*c.width], 1, len(chunks)*c.length, c.width)
	pooled, err := c.pool(last, endPosition(chunks[0]))
	if err != nil {
		return nil, err
	}
	return Conditioning{NewCond(text, pooled)}, nil
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

// states runs the tower over the chunks as a batch and returns the chosen and
// the last layer's states, [chunks, tokens, width].
func (c *CLIP) states(ctx context.Context, chunks [][]tokenizer.Token) (hidden, last *tensor.Tensor, err error) {
	x, err := c.embed(chunks)
	if err != nil {
		return nil, nil, err
	}
	out, err := c.runtime.pool.run(ctx, c.tower, map[string]*tensor.Tensor{"embeds": x})
	if err != nil {
		return nil, nil, err
	}
	return out["hidden"], out["last"], nil
}

// embed looks tokens up and adds positions: [chunks, tokens, width].
func (c *CLIP) embed(chunks [][]tokenizer.Token) (*tensor.Tensor, error) {
	table, err := c.openTable(tokenTable)
	if err != nil {
		return nil, err
	}
	defer table.close()
	positions, err := c.openTable(positionTable)
	if err != nil {
		return nil, err
	}
	defer positions.close()
	x := tensor.New(len(chunks), c.length, c.width)
	position := make([]float32, c.width)
	for i, chunk := range chunks {
		for j, t := range chunk {
			row := x.Data[(i*c.length+j)*c.width:][:c.width]
			if t.Embedding != nil {
				copy(row, t.Embedding)
			} else if err := table.row(row, t.ID); err != nil {
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
func (c *CLIP) weigh(chunks [][]tokenizer.Token, hidden *tensor.Tensor) {
	empty := hidden.Data[len(chunks)*c.length*c.width:]
	for i, chunk := range chunks {
		for j, t := range chunk {
			if t.Weight == 1 {
				continue
			}
			z := hidden.Data[(i*c.length+j)*c.width:][:c.width]
			for k, e := range empty[j*c.width:][:c.width] {
				z[k] = (z[k]-e)*t.Weight + e
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
func (c *CLIP) pool(last *tensor.Tensor, at int) (*tensor.Tensor, error) {
	state := last.Data[at*c.width:][:c.width]
	src, ok := c.weights.Lookup(textProjection)
	if !ok {
		return tensor.Of(append([]float32{}, state...), 1, c.width), nil
	}
	w, err := c.file.Read(src.From[0])
	if err != nil {
		return nil, err
	}
	out := tensor.New(1, w.Dim(0))
	for i := range out.Data {
		var sum float32
		for k, v := range w.Data[i*c.width:][:c.width] {
			sum += v * state[k]
		}
		out.Data[i] = sum
	}
	return out, nil
}

// table reads single rows of a large tensor.
type table struct {
	file *os.File
	info weights.Info
	buf  []byte
}

func (c *CLIP) openTable(name string) (*table, error) {
	src, _ := c.weights.Lookup(name)
	info, ok := c.file.Tensor(src.From[0])
	if !ok {
		return nil, fmt.Errorf("read %s: no such tensor in %s", name, c.file.Path)
	}
	f, err := os.Open(c.file.Path)
	if err != nil {
		return nil, err
	}
	return &table{file: f, info: info, buf: make([]byte, info.Shape[1]*info.DType.Size())}, nil
}

func (t *table) close() { t.file.Close() }

// row reads row i into dst, float32 rows rounded to half precision as text
// encoders are stored.
func (t *table) row(dst []float32, i int) error {
	if i < 0 || i >= t.info.Shape[0] {
		return fmt.Errorf("read %s: row %d of %d", t.info.Name, i, t.info.Shape[0])
	}
	if _, err := t.file.ReadAt(t.buf, t.info.Offset+int64(i*len(t.buf))); err != nil {
		return fmt.Errorf("read %s: %w", t.info.Name, err)
	}
	if err := tensor.Decode(dst, t.buf, t.info.DType); err != nil {
		return err
	}
	if t.info.DType == tensor.F32 {
		for k, v := range dst {
			dst[k] = tensor.F16ToF32(tensor.F32ToF16(v))
		}
	}
	return nil
}

// embedding reads the rows of a textual inversion.
func (c *CLIP) embedding(name string) ([][]float32, bool, error) {
	if c.runtime.options.Embedding == nil {
		return nil, false, nil
	}
	path, ok := c.runtime.options.Embedding(name)
	if !ok {
		return nil, false, nil
	}
	if !strings.HasSuffix(path, ".safetensors") && !strings.HasSuffix(path, ".sft") {
		return nil, false, fmt.Errorf("embedding %s: %s is no .safetensors file; pickled files can run code and are refused", name, path)
	}
	f, err := weights.Open(path)
	if err != nil {
		return nil, false, err
	}
	key := embeddingKey(f)
	if key == "" {
		return nil, false, fmt.Errorf("embedding %s: %s holds no tensor", name, path)
	}
	t, err := f.Read(key)
	if err != nil {
		return nil, false, err
	}
	var rows [][]float32
	width := t.Dim(-1)
	for i := 0; i < len(t.Data); i += width {
		rows = append(rows, t.Data[i:i+width])
	}
	return rows, true, nil
}

// embeddingKey chooses the tensor of an embedding file: the one for this
// encoder, else the first.
func embeddingKey(f *weights.File) string {
	if _, ok := f.Tensor("clip_l"); ok {
		return "clip_l"
	}
	if names := f.Names(); len(names) > 0 {
		return names[0]
	}
	return ""
}
