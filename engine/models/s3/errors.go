package s3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/models/fetch"
)

// explain says in words of this program what went wrong, and what may pass.
func (c *client) explain(err error, p place) error {
	var answer minio.ErrorResponse
	if !errors.As(err, &answer) {
		return passing(err, p)
	}
	switch code := answer.StatusCode; {
	case answer.Code == minio.NoSuchBucket:
		return fmt.Errorf("%w: there is no bucket %q at %s", models.ErrMissing, p.bucket, p.endpoint)
	case answer.Code == minio.NoSuchKey, answer.Code == "NoSuchVersion", code == http.StatusNotFound:
		return fmt.Errorf("%w: there is no object %q in bucket %q at %s", models.ErrMissing, p.key, p.bucket, p.endpoint)
	case code == http.StatusPreconditionFailed:
		return fmt.Errorf("%w: %s in bucket %s", fetch.ErrChanged, p.key, p.bucket)
	case code == http.StatusForbidden, code == http.StatusUnauthorized:
		if c.anonymous() {
			return fmt.Errorf("bucket %q at %s denies access, and %w", p.bucket, p.endpoint, errNoCredentials)
		}
		return fmt.Errorf("bucket %q at %s denies access with the credentials given: %s", p.bucket, p.endpoint, words(answer))
	case code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code >= 500, answer.Code == "SlowDown":
		return fetch.Temporary(fmt.Errorf("%s says %s", p.endpoint, words(answer)), 0)
	}
	return fmt.Errorf("%s says %s", p.endpoint, words(answer))
}

// explainAbsence is explain for an answer without a body, which does not tell a missing bucket from a missing object.
func (c *client) explainAbsence(ctx context.Context, err error, p place) error {
	if minio.ToErrorResponse(err).StatusCode == http.StatusNotFound {
		if exists, other := c.BucketExists(ctx, p.bucket); other == nil && !exists {
			err = minio.ErrorResponse{Code: minio.NoSuchBucket, StatusCode: http.StatusNotFound}
		}
	}
	return c.explain(err, p)
}

func words(answer minio.ErrorResponse) string {
	return fmt.Sprintf("%d %s: %s", answer.StatusCode, answer.Code, answer.Message)
}

// passing marks errors of the connection, except those that stay: certificates, and the end of ctx.
func passing(err error, p place) error {
	var certificate *tls.CertificateVerificationError
	if errors.As(err, &certificate) || errors.Is(err, context.Canceled) {
		return fmt.Errorf("reach %s: %w", p.endpoint, err)
	}
	return fetch.Temporary(fmt.Errorf("reach %s: %w", p.endpoint, err), 0)
}

// anonymous says whether requests carried no credentials.
func (c *client) anonymous() bool {
	value, err := c.creds.GetWithContext(c.CredContext())
	return err != nil || value.AccessKeyID == "" || value.SignerType == credentials.SignatureAnonymous
}
