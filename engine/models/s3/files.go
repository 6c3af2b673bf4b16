package s3

import (
	"context"
	"fmt"
	"io"
	"mime"
	"os"
	"path"

	"github.com/minio/minio-go/v7"

	"github.com/comfyrun/comfyrun/engine/models/fetch"
)

// PutFile uploads a file of any kind. An object that is there is replaced.
func (s *Storage) PutFile(ctx context.Context, source string, file *os.File) error {
	p, c, err := s.open(source)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("upload %s: %w", file.Name(), err)
	}
	_, err = c.Client.PutObject(ctx, p.bucket, p.key, file, info.Size(), minio.PutObjectOptions{
		PartSize: partSize, ContentType: mime.TypeByExtension(path.Ext(p.key)),
	})
	if err != nil {
		return fmt.Errorf("upload %s: %w", file.Name(), c.explain(err, p))
	}
	return nil
}

// CopyTo writes an object to w. One that is not there is a models.ErrMissing.
func (s *Storage) CopyTo(ctx context.Context, source string, w io.Writer) error {
	object, err := s.Stat(ctx, source)
	if err != nil {
		return err
	}
	body, err := s.Open(ctx, object, fetch.Range{})
	if err != nil {
		return err
	}
	defer body.Close()
	if _, err := io.Copy(w, body); err != nil {
		return fmt.Errorf("read %s: %w", source, err)
	}
	return nil
}
