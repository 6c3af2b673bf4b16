package web

import (
	"compress/gzip"
	"compress/zlib"
	"io"
	"net/http"
	"strings"
)

// encoder compresses what is written to it.
type encoder interface {
	io.WriteCloser
	Flush() error
}

// encode picks the compression of an answer: JSON and plain text for clients that know gzip, and then deflate, when they
// know that too, as ComfyUI does. Nil: as it is. The header is changed to fit.
func encode(header http.Header, r *http.Request, status int, w io.Writer) encoder {
	plain := status == http.StatusOK || status >= http.StatusBadRequest
	if !plain || r.Method == http.MethodHead || !compressible(header) {
		return nil
	}
	header.Add("Vary", "Accept-Encoding")
	accepts := strings.ToLower(r.Header.Get("Accept-Encoding"))
	if !strings.Contains(accepts, "gzip") {
		return nil
	}
	if etag := header.Get("ETag"); strings.HasPrefix(etag, `"`) {
		header.Set("ETag", "W/"+etag) // the same content, other bytes
	}
	header.Del("Content-Length")
	header.Del("Accept-Ranges")
	if strings.Contains(accepts, "deflate") {
		header.Set("Content-Encoding", "deflate")
		return zlib.NewWriter(w)
	}
	header.Set("Content-Encoding", "gzip")
	return gzip.NewWriter(w)
}

func compressible(header http.Header) bool {
	kind, _, _ := strings.Cut(header.Get("Content-Type"), ";")
	return header.Get("Content-Encoding") == "" && (kind == "application/json" || kind == "text/plain")
}
