package workflows

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func chunk(kind, data string) string {
	var n [4]byte
	binary.BigEndian.PutUint32(n[:], uint32(len(data)))
	return string(n[:]) + kind + data + "\x00\x00\x00\x00" // no reader of text checks the sum
}

func packed(text string) string {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	w.Write([]byte(text))
	w.Close()
	return b.String()
}

// webp makes a WebP of an EXIF chunk whose tags hold texts.
func webp(order binary.AppendByteOrder, prefix string, texts ...string) string {
	head, start := "II*\x00", 8+2+12*len(texts)+4
	if order == binary.AppendByteOrder(binary.BigEndian) {
		head = "MM\x00*"
	}
	exif := order.AppendUint32([]byte(head), 8)
	exif = order.AppendUint16(exif, uint16(len(texts)))
	var values string
	for i, text := range texts {
		exif = order.AppendUint16(exif, uint16(0x0110-i))
		exif = order.AppendUint16(exif, 2)
		exif = order.AppendUint32(exif, uint32(len(text)+1))
		exif = order.AppendUint32(exif, uint32(start+len(values)))
		values += text + "\x00"
	}
	exif = append(order.AppendUint32(exif, 0), values...)
	data := prefix + string(exif)
	riff := func(kind, data string) string {
		return string(binary.LittleEndian.AppendUint32([]byte(kind), uint32(len(data)))) + data + strings.Repeat("\x00", len(data)&1)
	}
	return riff("RIFF", "WEBP"+riff("VP8 ", "pix")+riff("EXIF", data))
}

func TestFromPicture(t *testing.T) {
	end := chunk("IEND", "")
	both := Embedded{Prompt: []byte(`{"1":{}}`), Workflow: []byte(`{"nodes":[]}`)}
	for _, tt := range []struct {
		name, data string
		want       Embedded
	}{
		{"PNG", pngSignature + chunk("IHDR", "x") + chunk("tEXt", "prompt\x00{\"1\":{}}") + chunk("tEXt", "workflow\x00{\"nodes\":[]}") + end, both},
		{"APNG", pngSignature + chunk("IDAT", "x") + chunk("comf", "prompt\x00{\"1\":{}}") + chunk("comf", "workflow\x00{\"nodes\":[]}") + end, both},
		{"packed", pngSignature + chunk("zTXt", "prompt\x00\x00"+packed(`{"1":{}}`)) + chunk("iTXt", "workflow\x00\x01\x00en\x00\x00"+packed(`{"nodes":[]}`)) + end, both},
		{"UTF-8", pngSignature + chunk("iTXt", "prompt\x00\x00\x00\x00\x00\"ü\"") + end, Embedded{Prompt: []byte(`"ü"`)}},
		{"Latin-1", pngSignature + chunk("tEXt", "prompt\x00\"\xfc\"") + end, Embedded{Prompt: []byte(`"ü"`)}},
		{"first counts", pngSignature + chunk("tEXt", "prompt\x001") + chunk("tEXt", "prompt\x002") + end, Embedded{Prompt: []byte(`1`)}},
		{"nothing after the end", pngSignature + chunk("tEXt", "prompt\x001") + end + "rubbish behind", Embedded{Prompt: []byte(`1`)}},
		{"WebP", webp(binary.LittleEndian, "", `prompt:{"1":{}}`, `workflow:{"nodes":[]}`), both},
		{"WebP, capitals, other byte order", webp(binary.BigEndian, "Exif\x00\x00", `Workflow:{"nodes":[]}`, `Prompt:{"1":{}}`), both},
	} {
		got, err := FromPicture([]byte(tt.data))
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", tt.name, err, diff)
		}
		if !IsPicture([]byte(tt.data)) {
			t.Errorf("%s: not seen as a picture", tt.name)
		}
	}
}

func TestFromPictureErrors(t *testing.T) {
	for _, tt := range []struct{ name, data, want string }{
		{"no picture", "GIF89a", "no PNG, WebP or JPEG"},
		{"no text", pngSignature + chunk("IEND", ""), "the picture carries no workflow"},
		{"JPEG", "\xff\xd8\xff\xe0", "the picture carries no workflow: ComfyUI writes none into JPEG"},
		{"cut off", (pngSignature + chunk("tEXt", "prompt\x00{}"))[:20], `PNG chunk "tEXt" of 9 bytes is cut off`},
		{"bomb", pngSignature + chunk("zTXt", "prompt\x00\x00"+packed(strings.Repeat(" ", MaxBytes+1))), "PNG chunk zTXt: unpacked more than 64 MiB"},
		{"bad packing", pngSignature + chunk("zTXt", "prompt\x00\x00xx"), "PNG chunk zTXt: "},
		{"WebP cut off", webp(binary.LittleEndian, "", "prompt:1")[:40], "is cut off"},
		{"EXIF leads out", strings.Replace(webp(binary.LittleEndian, "", "prompt:1"), "\x09\x00\x00\x00", "\xff\x00\x00\x00", 1), "EXIF tag 0x0110 is cut off"},
	} {
		_, err := FromPicture([]byte(tt.data))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.want)
		}
	}
	if _, err := FromPicture([]byte(pngSignature)); !errors.Is(err, ErrNoWorkflow) {
		t.Errorf("error %v, want ErrNoWorkflow", err)
	}
}

// The sample picture of this folder carries what it was drawn by.
func TestFromSamplePicture(t *testing.T) {
	data, err := os.ReadFile("input/house.png")
	if err != nil {
		t.Fatal(err)
	}
	e, err := FromPicture(data)
	if err != nil {
		t.Fatal(err)
	}
	if g, err := Parse(e.Prompt); err != nil || g.Len() == 0 {
		t.Errorf("prompt: %d nodes, %v", g.Len(), err)
	}
}

func FuzzFromPicture(f *testing.F) {
	f.Add([]byte(pngSignature + chunk("tEXt", "prompt\x00{}") + chunk("iTXt", "workflow\x00\x00\x00\x00\x00{}")))
	f.Add([]byte(webp(binary.LittleEndian, "", "prompt:{}", "workflow:{}")))
	f.Add([]byte(webp(binary.BigEndian, "Exif\x00\x00", "prompt:{}")))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := FromPicture(data)
		if err == nil && e.Prompt == nil && e.Workflow == nil {
			t.Error("neither a workflow nor an error")
		}
	})
}
