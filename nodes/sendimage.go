package nodes

import (
	"bytes"
	"context"
	"fmt"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/imagefile"
)

// sendImage is SaveImageWebsocket, a node package that comes with ComfyUI: what it gets is sent to the client and kept nowhere.
type sendImage struct {
	Images diffusion.Image `in:"images" doc:"The pictures to send."`
}

func send(ctx context.Context, in sendImage) (engine.UI, error) {
	total := in.Images.Shape[0]
	for i := range total {
		p, err := imagefile.FromTensor(in.Images.Tensor, i)
		if err != nil {
			return nil, fmt.Errorf("send image: %w", err)
		}
		engine.Preview(ctx, i, total, sentPicture{p})
	}
	return engine.UI{}, ctx.Err()
}

// sentPicture is a preview that is the result itself.
type sentPicture struct{ imagefile.Picture }

// Encode gives a PNG of the picture as it is, whatever previews look like.
func (p sentPicture) Encode(string, int) (mime string, data []byte, err error) {
	var b bytes.Buffer
	err = imagefile.WritePNG(&b, p.Picture, imagefile.PNGOptions{Fast: true})
	return "image/png", b.Bytes(), err
}

// Lasting says that the picture must not be left out.
func (sentPicture) Lasting() {}
