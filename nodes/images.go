package nodes

import (
	"context"
	"fmt"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

type (
	flipMethod string
	rotation   string
)

// imageKinds are the choice inputs of addImages.
func imageKinds() []engine.Kind {
	return []engine.Kind{
		engine.Combo[flipMethod](engine.Choices("x-axis: vertically", "y-axis: horizontally")),
		engine.Combo[rotation](engine.Choices("none", "90 degrees", "180 degrees", "270 degrees")),
	}
}

const imagesModule = "comfy_extras.nodes_images"

// addImages declares the nodes that make, cut, turn and group pictures.
func addImages(c *engine.Catalog) {
	engine.Add(c, "ImageInvert", "image", invertImage{}, invert).
		Title("Invert Image").Doc("Turns light into dark and colours into their opposites.")
	engine.Add(c, "EmptyImage", "image", emptyImage{Width: 512, Height: 512, Batch: 1}, newImage).
		Doc("Pictures of one colour.")
	engine.Add(c, "GetImageSize", "image", imageSizeOf{}, imageSize).Module(imagesModule).
		Title("Get Image Size").Doc("Width, height and number of pictures.")
	engine.Add(c, "ImagePadForOutpaint", "image", outpaint{Feather: 40}, padForOutpaint).
		Title("Pad Image for Outpainting").Doc("Adds a gray border to be painted, and the mask for it.")
	engine.Add(c, "ImageCrop", "image/transform", imageCrop{Width: 512, Height: 512}, crop).Module(imagesModule).
		Title("Image Crop").Doc("Cuts a rectangle out of pictures.")
	engine.Add(c, "ImageFlip", "image/transform", imageFlip{}, flip).Module(imagesModule).
		Doc("Mirrors pictures.")
	engine.Add(c, "ImageRotate", "image/transform", imageRotate{}, rotate).Module(imagesModule).
		Doc("Turns pictures clockwise.")
	addImageBatches(c)
}

type invertImage struct {
	Image diffusion.Image `in:"image"`
}

func invert(_ context.Context, in invertImage) (diffusion.Image, error) {
	out := in.Image.Clone()
	for i, v := range out.Data {
		out.Data[i] = 1 - v
	}
	return diffusion.Image{Tensor: out}, nil
}

type emptyImage struct {
	Width  int `in:"width" range:"1,16384,1"`
	Height int `in:"height" range:"1,16384,1"`
	Batch  int `in:"batch_size" range:"1,4096"`
	Colour int `in:"color" range:"0,0xffffff,1" ui:"display=color"`
}

func newImage(_ context.Context, in emptyImage) (diffusion.Image, error) {
	out := tensor.New(in.Batch, in.Height, in.Width, 3)
	for i := range out.Data {
		out.Data[i] = float32(in.Colour>>(16-8*(i%3))&0xff) / 255
	}
	return diffusion.Image{Tensor: out}, nil
}

type imageSizeOf struct {
	Image diffusion.Image `in:"image"`
	ID    engine.UniqueID
}

type imageSizes struct {
	Width  int `out:"width"`
	Height int `out:"height"`
	Batch  int `out:"batch_size"`
}

func imageSize(_ context.Context, in imageSizeOf) (imageSizes, error) {
	return imageSizes{in.Image.Shape[2], in.Image.Shape[1], in.Image.Shape[0]}, nil
}

type outpaint struct {
	Image   diffusion.Image `in:"image"`
	Left    int             `in:"left" range:"0,16384,8"`
	Top     int             `in:"top" range:"0,16384,8"`
	Right   int             `in:"right" range:"0,16384,8"`
	Bottom  int             `in:"bottom" range:"0,16384,8"`
	Feather int             `in:"feathering" range:"0,16384,1"`
}

// padForOutpaint gives mid gray and mask 1 around the picture. Within it the
// mask falls off with the square of the distance to a side that grows, unless
// the picture is too small for that.
func padForOutpaint(_ context.Context, in outpaint) (imageAndMask, error) {
	b, h, w := in.Image.Shape[0], in.Image.Shape[1], in.Image.Shape[2]
	height, width := h+in.Top+in.Bottom, w+in.Left+in.Right
	img := tensor.Full(0.5, b, height, width, in.Image.Shape[3])
	if err := paste(img, in.Image.Tensor, in.Left, in.Top); err != nil {
		return imageAndMask{}, err
	}
	mask := tensor.Full(1, 1, height, width)
	for i := range h * w {
		y, x := i/w, i%w
		mask.Data[(y+in.Top)*width+x+in.Left] = in.fade(x, y, w, h)
	}
	return imageAndMask{diffusion.Image{Tensor: img}, diffusion.Mask{Tensor: mask}}, nil
}

// fade is the mask at a pixel of the picture.
func (in outpaint) fade(x, y, w, h int) float32 {
	if in.Feather == 0 || 2*in.Feather >= h || 2*in.Feather >= w {
		return 0
	}
	d := in.Feather
	for _, side := range []struct{ grows, distance int }{
		{in.Top, y}, {in.Bottom, h - y}, {in.Left, x}, {in.Right, w - x},
	} {
		if side.grows != 0 {
			d = min(d, side.distance)
		}
	}
	v := float64(in.Feather-d) / float64(in.Feather)
	return float32(v * v)
}

type imageCrop struct {
	Image  diffusion.Image `in:"image"`
	Width  int             `in:"width" range:"1,16384,1"`
	Height int             `in:"height" range:"1,16384,1"`
	X      int             `in:"x" range:"0,16384,1"`
	Y      int             `in:"y" range:"0,16384,1"`
}

// crop moves a corner beyond the picture back onto its last pixel and cuts
// what lies within.
func crop(_ context.Context, in imageCrop) (diffusion.Image, error) {
	t, err := in.Image.ChannelsFirst()
	if err != nil {
		return diffusion.Image{}, err
	}
	w, h := t.Shape[3], t.Shape[2]
	x, y := min(in.X, w-1), min(in.Y, h-1)
	t, err = tensor.Crop(t, tensor.Rect{X: x, Y: y, Width: min(in.Width, w-x), Height: min(in.Height, h-y)})
	if err != nil {
		return diffusion.Image{}, err
	}
	t, err = t.ChannelsLast()
	return diffusion.Image{Tensor: t}, err
}

type imageFlip struct {
	Image  diffusion.Image `in:"image"`
	Method flipMethod      `in:"flip_method"`
}

func flip(_ context.Context, in imageFlip) (diffusion.Image, error) {
	w, h := in.Image.Shape[2]-1, in.Image.Shape[1]-1
	if in.Method == "x-axis: vertically" {
		return rearrange(in.Image, false, func(x, y int) (int, int) { return x, h - y }), nil
	}
	return rearrange(in.Image, false, func(x, y int) (int, int) { return w - x, y }), nil
}

type imageRotate struct {
	Image    diffusion.Image `in:"image"`
	Rotation rotation        `in:"rotation"`
}

func rotate(_ context.Context, in imageRotate) (diffusion.Image, error) {
	w, h := in.Image.Shape[2]-1, in.Image.Shape[1]-1
	switch in.Rotation {
	case "90 degrees":
		return rearrange(in.Image, true, func(x, y int) (int, int) { return y, h - x }), nil
	case "180 degrees":
		return rearrange(in.Image, false, func(x, y int) (int, int) { return w - x, h - y }), nil
	case "270 degrees":
		return rearrange(in.Image, true, func(x, y int) (int, int) { return w - y, x }), nil
	}
	return in.Image, nil
}

// rearrange moves pixels: from says where the pixel at x, y comes from. swap
// exchanges width and height.
func rearrange(img diffusion.Image, swap bool, from func(x, y int) (int, int)) diffusion.Image {
	b, h, w, c := img.Shape[0], img.Shape[1], img.Shape[2], img.Shape[3]
	outH, outW := h, w
	if swap {
		outH, outW = w, h
	}
	out := tensor.New(b, outH, outW, c)
	for i := range b * outH * outW {
		x, y := from(i%outW, i/outW%outH)
		at := (i/(outW*outH)*h+y)*w + x
		copy(out.Data[i*c:(i+1)*c], img.Data[at*c:])
	}
	return diffusion.Image{Tensor: out}
}

// addImageBatches declares the nodes that group pictures.
func addImageBatches(c *engine.Catalog) {
	engine.Add(c, "ImageBatch", "image", imageBatch{}, batchImages).
		Title("Batch Images").Doc("Joins two batches; the second one is cut and resized to the size of the first.")
	engine.Add(c, "ImageFromBatch", "image/batch", imageFromBatch{Length: 1}, takeImages).Module(imagesModule).
		Doc("Takes some pictures of a batch.")
	engine.Add(c, "RepeatImageBatch", "image/batch", repeatImages{Amount: 1}, repeatBatch).Module(imagesModule).
		Doc("Repeats a batch of pictures.")
	engine.Add(c, "RebatchImages", "image/batch", rebatchImages{Size: 1}, regroup).
		Module("comfy_extras.nodes_rebatch").V3().
		Title("Rebatch Images").Doc("Regroups pictures into batches of another size.")
}

type imageBatch struct {
	First  diffusion.Image `in:"image1"`
	Second diffusion.Image `in:"image2"`
}

func batchImages(_ context.Context, in imageBatch) (diffusion.Image, error) {
	a, b := sameChannels(in.First, in.Second)
	w, h := a.Shape[2], a.Shape[1]
	if b.Shape[1] != h || b.Shape[2] != w {
		var err error
		if b, err = cropImage(b, w, h); err != nil {
			return diffusion.Image{}, err
		}
		if b, err = resizeImage(b, w, h, tensor.Bilinear); err != nil {
			return diffusion.Image{}, err
		}
	}
	out, err := tensor.Stack(a.Tensor, b.Tensor)
	return diffusion.Image{Tensor: out}, err
}

// sameChannels gives the picture with fewer channels an opaque alpha.
func sameChannels(a, b diffusion.Image) (x, y diffusion.Image) {
	n := max(a.Shape[3], b.Shape[3])
	return diffusion.Image{Tensor: withChannels(a.Tensor, n)}, diffusion.Image{Tensor: withChannels(b.Tensor, n)}
}

// withChannels brings pictures to n channels: further ones are 1, those too
// many are dropped.
func withChannels(t *tensor.Tensor, n int) *tensor.Tensor {
	c := t.Shape[3]
	if c == n {
		return t
	}
	out := tensor.Full(1, t.Shape[0], t.Shape[1], t.Shape[2], n)
	for i := range len(t.Data) / c {
		copy(out.Data[i*n:(i+1)*n], t.Data[i*c:(i+1)*c])
	}
	return out
}

type imageFromBatch struct {
	Image  diffusion.Image `in:"image"`
	Index  int             `in:"batch_index" range:"0,4095"`
	Length int             `in:"length" range:"1,4096"`
}

func takeImages(_ context.Context, in imageFromBatch) (diffusion.Image, error) {
	n := in.Image.Shape[0]
	first := min(in.Index, n-1)
	return diffusion.Image{Tensor: in.Image.Rows(first, min(first+in.Length, n))}, nil
}

type repeatImages struct {
	Image  diffusion.Image `in:"image"`
	Amount int             `in:"amount" range:"1,4096"`
}

func repeatBatch(_ context.Context, in repeatImages) (diffusion.Image, error) {
	return diffusion.Image{Tensor: in.Image.Repeat(in.Image.Shape[0] * in.Amount)}, nil
}

type rebatchImages struct {
	Images engine.List[diffusion.Image] `in:"images"`
	Size   int                          `in:"batch_size" range:"1,4096"`
}

func regroup(_ context.Context, in rebatchImages) (engine.List[diffusion.Image], error) {
	var out engine.List[diffusion.Image]
	var group []*tensor.Tensor
	flush := func() error {
		t, err := tensor.Stack(group...)
		out, group = append(out, diffusion.Image{Tensor: t}), nil
		return err
	}
	for _, img := range in.Images {
		for i := range img.Shape[0] {
			group = append(group, img.Index(i))
			if len(group) < in.Size {
				continue
			}
			if err := flush(); err != nil {
				return nil, fmt.Errorf("rebatch images: %w", err)
			}
		}
	}
	if len(group) == 0 {
		return out, nil
	}
	return out, flush()
}
