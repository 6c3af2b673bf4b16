package fetch

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Hub reads files from Hugging Face, or a mirror of its form: hf://OWNER/REPO@REVISION/FILE. A revision that is a commit
// never changes what it means.
type Hub struct {
	Web
	Endpoint string // "" stands for https://huggingface.co
	Token    string // sent to the endpoint only; "" for none
}

// Stat asks for the first byte.
func (h *Hub) Stat(ctx context.Context, source string) (Object, error) {
	address, err := h.address(source)
	if err != nil {
		return Object{}, err
	}
	return h.stat(ctx, source, address, h.header())
}

// Open asks for a part.
func (h *Hub) Open(ctx context.Context, o Object, r Range) (io.ReadCloser, error) {
	address, err := h.address(o.URL)
	if err != nil {
		return nil, err
	}
	return h.open(ctx, o, address, r, h.header())
}

// header carries the token. The client leaves it out when it is redirected to another host.
func (h *Hub) header() http.Header {
	header := http.Header{}
	if h.Token != "" {
		header.Set("Authorization", "Bearer "+h.Token)
	}
	return header
}

func (h *Hub) address(source string) (string, error) {
	wrong := fmt.Errorf("%s must be hf://OWNER/REPO@REVISION/FILE", source)
	rest, ok := strings.CutPrefix(source, "hf://")
	repo, tail, pinned := strings.Cut(rest, "@")
	revision, file, named := strings.Cut(tail, "/")
	if !ok || !pinned || !named || strings.Count(repo, "/") != 1 || revision == "" || file == "" {
		return "", wrong
	}
	endpoint := h.Endpoint
	if endpoint == "" {
		endpoint = "https://huggingface.co"
	}
	address, err := url.JoinPath(endpoint, repo, "resolve", revision, file)
	if err != nil {
		return "", wrong
	}
	return address, nil
}
