package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/models/fetch"
)

const partSize = 64 << 20

// PushURL is where a file of a digest lies below a folder of a bucket.
func PushURL(folder, digest string) string {
	path, query, found := strings.Cut(folder, "?")
	if found {
		query = "?" + query
	}
	return strings.TrimSuffix(path, "/") + "/blobs/sha256/" + url.PathEscape(digest) + query
}

// Push puts a file into a bucket under its digest, with the list of its pieces beside it, unless both are there. It returns
// the file's source and whether it was sent.
func (s *Storage) Push(ctx context.Context, folder string, file *os.File, sum models.Sum) (source string, sent bool, err error) {
	source = PushURL(folder, sum.SHA256)
	list := sum.Pieces.Text()
	// The list goes first: whoever sees the file finds it.
	if _, err := s.put(ctx, fetch.PiecesURL(source), upload{bytes.NewReader(list), int64(len(list)), sum.Pieces.Digest()}); err != nil {
		return "", false, fmt.Errorf("push the list of pieces: %w", err)
	}
	if sent, err = s.put(ctx, source, upload{file, sum.Size, sum.SHA256}); err != nil {
		return "", false, fmt.Errorf("push %s: %w", file.Name(), err)
	}
	return source, sent, nil
}

// upload is what is put somewhere.
type upload struct {
	content io.Reader
	size    int64
	digest  string
}

// put uploads one object unless it is there with the same size and digest.
func (s *Storage) put(ctx context.Context, source string, u upload) (sent bool, err error) {
	p, c, err := s.open(source)
	if err != nil {
		return false, err
	}
	info, err := c.StatObject(ctx, p.bucket, p.key, minio.StatObjectOptions{})
	if err == nil && info.Size == u.size && strings.EqualFold(info.UserMetadata["Sha256"], u.digest) {
		return false, nil
	}
	if err != nil {
		if err = c.explainAbsence(ctx, err, p); !errors.Is(err, models.ErrMissing) || minio.ToErrorResponse(err).Code == minio.NoSuchBucket {
			return false, err
		}
	}
	_, err = c.Client.PutObject(ctx, p.bucket, p.key, u.content, u.size, minio.PutObjectOptions{
		PartSize: partSize, NumThreads: 4, DisableContentSha256: true, ContentType: "application/octet-stream",
		UserMetadata: map[string]string{"sha256": u.digest},
	})
	if err != nil {
		return false, c.explain(err, p)
	}
	return true, nil
}
