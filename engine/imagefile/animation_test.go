package imagefile

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/png"
	"strings"
	"testing"

	"golang.org/x/image/webp"
)

// frames are three pictures, the second of which comes twice.
func testFrames(alpha bool) []Picture {
	var out []Picture
	for _, seed := range []uint64{1, 2, 2, 3} {
		p := quantizeCase{Width: 37, Height: 23, Seed: seed, Kind: "gradient"}.picture()
		if alpha {
			p.Alpha = make([]byte, p.Width*p.Height)
			for i := range p.Alpha {
				p.Alpha[i] = byte(i * int(seed))
			}
		}
		out = append(out, p)
	}
	return out
}

func TestAPNG(t *testing.T) {
	for _, alpha := range []bool{false, true} {
		frames := testFrames(alpha)
		a := Animation{Frames: frames, Delay: 166, Text: []Text{{"prompt", `{"1": 2}`}}}
		var file bytes.Buffer
		if err := a.WriteAPNG(&file, 4); err != nil {
			t.Fatal(err)
		}
		kinds, parts := "", map[string][]byte{}
		var delays []uint16
		var pixels [][]byte
		for c := range pngChunks(file.Bytes()) {
			kinds += c.kind + " "
			parts[c.kind] = c.data
			switch c.kind {
			case "fcTL":
				delays = append(delays, binary.BigEndian.Uint16(c.data[20:]))
				pixels = append(pixels, nil)
			case "IDAT":
				pixels[len(pixels)-1] = append(pixels[len(pixels)-1], c.data...)
			case "fdAT":
				pixels[len(pixels)-1] = append(pixels[len(pixels)-1], c.data[4:]...)
			}
		}
		if want := "IHDR acTL fcTL IDAT fcTL fdAT fcTL fdAT comf IEND "; kinds != want {
			t.Errorf("chunks %s, want %s", kinds, want)
		}
		if string(parts["comf"]) != "prompt\x00{\"1\": 2}" {
			t.Errorf("text %q", parts["comf"])
		}
		if len(delays) != 3 || delays[0] != 166 || delays[1] != 332 || delays[2] != 166 {
			t.Errorf("delays %v", delays)
		}
		for i, want := range []Picture{frames[0], frames[1], frames[3]} {
			samePixels(t, decodeFrame(t, parts["IHDR"], pixels[i]), want)
		}
	}
}

// decodeFrame makes a plain PNG of a frame's data.
func decodeFrame(t *testing.T, header, pixels []byte) image.Image {
	t.Helper()
	var b bytes.Buffer
	b.WriteString(pngSignature)
	writeChunk(&b, "IHDR", string(header))
	writeChunk(&b, "IDAT", string(pixels))
	writeChunk(&b, "IEND")
	im, err := png.Decode(&b)
	if err != nil {
		t.Fatal(err)
	}
	return im
}

func samePixels(t *testing.T, got image.Image, want Picture) {
	t.Helper()
	if got.Bounds().Dx() != want.Width || got.Bounds().Dy() != want.Height {
		t.Fatalf("%v, want %dx%d", got.Bounds(), want.Width, want.Height)
	}
	exp := want.encodable()
	for y := range want.Height {
		for x := range want.Width {
			r, g, b, a := got.At(x, y).RGBA()
			r2, g2, b2, a2 := exp.At(x, y).RGBA()
			if r != r2 || g != g2 || b != b2 || a != a2 {
				t.Fatalf("pixel %d,%d is %v, want %v", x, y, got.At(x, y), exp.At(x, y))
			}
		}
	}
}

type riffPart struct {
	kind string
	data []byte
}

func riffParts(t *testing.T, data []byte) []riffPart {
	t.Helper()
	var out []riffPart
	for len(data) > 0 {
		n := int(binary.LittleEndian.Uint32(data[4:]))
		out = append(out, riffPart{string(data[:4]), data[8 : 8+n]})
		data = data[8+n+n%2:]
	}
	return out
}

func TestWebP(t *testing.T) {
	for _, alpha := range []bool{false, true} {
		frames := testFrames(alpha)
		a := Animation{Frames: frames, Delay: 166, Text: []Text{{"prompt", "{}"}, {"workflow", "[]"}}}
		var file bytes.Buffer
		if err := a.WriteWebP(&file); err != nil {
			t.Fatal(err)
		}
		data := file.Bytes()
		if string(data[:4]) != "RIFF" || int(binary.LittleEndian.Uint32(data[4:])) != len(data)-8 {
			t.Fatalf("header %q", data[:12])
		}
		kinds, next := "", 0
		want := []Picture{frames[0], frames[1], frames[3]}
		for _, c := range riffParts(t, data[12:]) {
			kinds += c.kind + " "
			switch c.kind {
			case "ANMF":
				if delay := int(c.data[12]) | int(c.data[13])<<8; delay != []int{166, 332, 166}[next] {
					t.Errorf("frame %d is shown for %d ms", next, delay)
				}
				samePixels(t, decodeVP8L(t, riffParts(t, c.data[16:])[0].data), want[next])
				next++
			case "EXIF":
				if !strings.Contains(string(c.data), "prompt:{}\x00") || !strings.HasPrefix(string(c.data), "II*\x00") {
					t.Errorf("EXIF %q", c.data)
				}
			}
		}
		if kinds != "VP8X ANIM ANMF ANMF ANMF EXIF " {
			t.Errorf("chunks %s", kinds)
		}
	}
}

func decodeVP8L(t *testing.T, data []byte) image.Image {
	t.Helper()
	var body bytes.Buffer
	body.WriteString("WEBP")
	riffChunk(&body, "VP8L", data)
	file := binary.LittleEndian.AppendUint32([]byte("RIFF"), uint32(body.Len()))
	im, err := webp.Decode(bytes.NewReader(append(file, body.Bytes()...)))
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// TestStillWebP has one frame, which other decoders read as a plain picture.
func TestStillWebP(t *testing.T) {
	frame := testFrames(false)[0]
	var file bytes.Buffer
	if err := (Animation{Frames: []Picture{frame}, Delay: 1}).WriteWebP(&file); err != nil {
		t.Fatal(err)
	}
	im, err := webp.Decode(&file)
	if err != nil {
		t.Fatal(err)
	}
	samePixels(t, im, frame)
}

func TestAnimationErrors(t *testing.T) {
	for name, frames := range map[string][]Picture{
		"none": nil, "empty": {newPicture(0, 0)}, "sizes": {newPicture(2, 2), newPicture(3, 2)},
	} {
		a := Animation{Frames: frames}
		if err := a.WriteAPNG(&bytes.Buffer{}, 4); err == nil {
			t.Errorf("%s: no error of WriteAPNG", name)
		}
		if err := a.WriteWebP(&bytes.Buffer{}); err == nil {
			t.Errorf("%s: no error of WriteWebP", name)
		}
	}
}
