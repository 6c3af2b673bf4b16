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
	to, err := h.address(source)
	if err != nil {
		return Object{}, err
	}
	return h.stat(ctx, source, to)
}

// Open asks for a part.
func (h *Hub) Open(ctx context.Context, o Object, r Range) (io.ReadCloser, error) {
	to, err := h.address(o.URL)
	if err != nil {
		return nil, err
	}
	return h.open(ctx, o, r, to)
}

// address is where a source is, with the token. The client leaves that out when it is redirected to another host.
func (h *Hub) address(source string) (address, error) {
	wrong := fmt.Errorf("%s must be hf://OWNER/REPO@REVISION/FILE", source)
	rest, ok := strings.CutPrefix(source, "hf://")
	repo, tail, pinned := strings.Cut(rest, "@")
	revision, file, named := strings.Cut(tail, "/")
	if !ok || !pinned || !named || strings.Count(repo, "/") != 1 || revision == "" || file == "" {
		return address{}, wrong
	}
	endpoint := h.Endpoint
	if endpoint == "" {
		endpoint = "https://huggingface.co"
	}
	joined, err := url.JoinPath(endpoint, repo, "resolve", revision, file)
	if err != nil {
		return address{}, wrong
	}
	to := address{joined, http.Header{}}
	if h.Token != "" {
		to.header.Set("Authorization", "Bearer "+h.Token)
	}
	return to, nil
}
