package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/comfyrun/comfyrun/engine/models"
)

// Web reads files from web servers: https://host/file.
type Web struct {
	Client *http.Client // NewTransport makes a good one's transport
}

// NewTransport returns a transport for many long answers at once: each on a connection of its own, since those that share one
// share its rate. caFile, "" for none, holds certificates (PEM) to trust beside the system's.
func NewTransport(caFile string) (*http.Transport, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.ForceAttemptHTTP2 = false
	t.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	t.MaxIdleConns, t.MaxIdleConnsPerHost = 256, 64
	t.ReadBufferSize = bufferSize
	t.DisableCompression = true
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile == "" {
		return t, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read certificates: %s holds none in PEM form", caFile)
	}
	t.TLSClientConfig.RootCAs = pool
	return t, nil
}

// NewClient returns a client that does not follow redirections from https to http.
func NewClient(transport http.RoundTripper) *http.Client {
	return &http.Client{Transport: transport, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if len(via) >= 10 {
			return errors.New("more than 10 redirections")
		}
		if req.URL.Scheme != "https" && via[0].URL.Scheme == "https" {
			return fmt.Errorf("redirected from https to %s", req.URL.Redacted())
		}
		return nil
	}}
}

// Stat asks for the first byte, which tells size, version and whether parts can be had.
func (w *Web) Stat(ctx context.Context, url string) (Object, error) {
	return w.stat(ctx, url, address{url: url})
}

// address is where a request goes, and what it carries.
type address struct {
	url    string
	header http.Header
}

func (w *Web) stat(ctx context.Context, source string, to address) (Object, error) {
	answer, err := w.get(ctx, to, Range{0, 1})
	if err != nil {
		return Object{}, err
	}
	defer answer.Body.Close()
	o := Object{URL: source, Size: answer.ContentLength, Version: versionOf(answer), Whole: true}
	if answer.StatusCode == http.StatusPartialContent {
		_, size, found := strings.Cut(answer.Header.Get("Content-Range"), "/")
		if o.Size, err = strconv.ParseInt(size, 10, 64); err != nil || !found {
			o.Size = -1
		}
		o.Whole = o.Size < 0
	}
	return o, nil
}

// versionOf is the version of the file that an answer is about.
func versionOf(answer *http.Response) string {
	if tag := answer.Header.Get("ETag"); tag != "" {
		return tag
	}
	return answer.Header.Get("Last-Modified")
}

// Open asks for a part.
func (w *Web) Open(ctx context.Context, o Object, r Range) (io.ReadCloser, error) {
	return w.open(ctx, o, r, address{url: o.URL})
}

func (w *Web) open(ctx context.Context, o Object, r Range, to address) (io.ReadCloser, error) {
	if o.Whole {
		r = Range{}
	}
	answer, err := w.get(ctx, to, r)
	if err != nil {
		return nil, err
	}
	switch {
	case o.Version != "" && versionOf(answer) != o.Version:
		err = fmt.Errorf("%w: its version was %s and is %s", ErrChanged, o.Version, versionOf(answer))
	case !o.Whole && answer.StatusCode != http.StatusPartialContent:
		err = errors.New("the server gives parts at one time and not at another")
	case !o.Whole && !strings.HasPrefix(answer.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", r.Offset)):
		err = fmt.Errorf("asked for bytes from %d, the server gives %q", r.Offset, answer.Header.Get("Content-Range"))
	}
	if err != nil {
		answer.Body.Close()
		return nil, err
	}
	return answer.Body, nil
}

// get makes a request, for a part if r has a length.
func (w *Web) get(ctx context.Context, to address, r Range) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, to.url, nil)
	if err != nil {
		return nil, err
	}
	for key, values := range to.header {
		req.Header[key] = values
	}
	req.Header.Set("Accept-Encoding", "identity")
	if r.Length > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", r.Offset, r.Offset+r.Length-1))
	}
	answer, err := w.Client.Do(req)
	if err != nil {
		return nil, withoutURL(err)
	}
	if err := answerError(answer); err != nil {
		answer.Body.Close()
		return nil, err
	}
	return answer, nil
}

// withoutURL takes the URL out of an error of net/http: it may carry signatures, and whoever called names it.
func withoutURL(err error) error {
	var inner *url.Error
	if !errors.As(err, &inner) {
		return err
	}
	var certificate *tls.CertificateVerificationError
	if errors.As(err, &certificate) || strings.Contains(inner.Err.Error(), "redirect") || strings.Contains(inner.Err.Error(), "unsupported protocol") {
		return inner.Err
	}
	return Temporary(inner.Err, 0)
}

// answerError is what an answer's status says.
func answerError(answer *http.Response) error {
	switch code := answer.StatusCode; {
	case code == http.StatusOK, code == http.StatusPartialContent:
		return nil
	case code == http.StatusNotFound, code == http.StatusGone:
		return fmt.Errorf("%w: the server says %s", models.ErrMissing, answer.Status)
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return fmt.Errorf("the server says %s: it wants credentials, or others", answer.Status)
	case code == http.StatusRequestTimeout, code == http.StatusTooManyRequests, code >= 500:
		return Temporary(fmt.Errorf("the server says %s", answer.Status), RetryAfter(answer.Header))
	default:
		return fmt.Errorf("the server says %s", answer.Status)
	}
}

// RetryAfter is how long a server asks to be left alone.
func RetryAfter(header http.Header) time.Duration {
	text := header.Get("Retry-After")
	if seconds, err := strconv.Atoi(text); err == nil && seconds > 0 {
		return time.Duration(seconds) * time.Second
	}
	if when, err := http.ParseTime(text); err == nil {
		return max(0, time.Until(when))
	}
	return 0
}
