package s3

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/models/fetch"
)

func TestPlace(t *testing.T) {
	for _, tt := range []struct {
		source  string
		options Options
		want    place
	}{
		{"s3://b/a/k.pt", Options{}, place{target{"https://s3.amazonaws.com", "", ""}, "b", "a/k.pt", ""}},
		{"s3://b/k%20%231", Options{Region: "eu-west-1"}, place{target{"https://s3.amazonaws.com", "eu-west-1", ""}, "b", "k #1", ""}},
		{"s3://b/k", Options{Endpoint: "minio:9000", Style: "path"}, place{target{"minio:9000", "us-east-1", "path"}, "b", "k", ""}},
		{"s3://b/k?endpoint=http://h:1&region=r&style=host&versionId=v", Options{Endpoint: "x", Region: "y", Style: "path"}, place{target{"http://h:1", "r", "host"}, "b", "k", "v"}},
		{"gs://b/k", Options{}, place{target{"https://storage.googleapis.com", "", ""}, "b", "k", ""}},
		{"oss://b/k?region=cn-hangzhou", Options{}, place{target{"https://oss-cn-hangzhou.aliyuncs.com", "cn-hangzhou", "host"}, "b", "k", ""}},
		{"oss://b/k", Options{Region: "oss-cn-beijing"}, place{target{"https://oss-cn-beijing.aliyuncs.com", "oss-cn-beijing", "host"}, "b", "k", ""}},
	} {
		s := &Storage{Options: tt.options}
		got, err := s.place(tt.source)
		if err != nil || got != tt.want {
			t.Errorf("%s is %+v, %v; want %+v", tt.source, got, err, tt.want)
		}
	}
	for source, want := range map[string]string{
		"s3:///k": "must be s3://BUCKET/KEY", "s3://b": "names a bucket and no object", "s3://b/k?style=x": `style is "x"`,
		"oss://b/k": "needs a region", "ftp://b/k": "is no object storage", "s3://b/k?endpoint=h/path": "endpoint must be",
		"s3://b/k?endpoint=ftp://h": "endpoint must be",
	} {
		if _, err := (&Storage{}).Stat(t.Context(), source); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v, want %q", source, err, want)
		}
	}
}

// answering is a server that gives one answer.
func answering(t *testing.T, status int, code string) *Storage {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			fmt.Fprintf(w, "<Error><Code>%s</Code><Message>because</Message></Error>", code)
		}
	}))
	t.Cleanup(server.Close)
	return &Storage{Options: Options{Endpoint: server.URL, Keys: &Keys{ID: "id", Secret: "secret"}}}
}

func TestErrors(t *testing.T) {
	for _, tt := range []struct {
		status int
		code   string
		kind   error
		want   string
	}{
		{404, "NoSuchKey", models.ErrMissing, `there is no object "k" in bucket "bucket"`},
		{404, "NoSuchBucket", models.ErrMissing, `there is no bucket "bucket" at http://`},
		{412, "PreconditionFailed", fetch.ErrChanged, "the object changed during the download: k in bucket bucket"},
		{403, "AccessDenied", nil, `denies access with the credentials given: 403 AccessDenied: because`},
		{503, "SlowDown", nil, "says 503 SlowDown: because"},
		{400, "InvalidRequest", nil, "says 400 InvalidRequest: because"},
	} {
		s := answering(t, tt.status, tt.code)
		_, err := s.Open(t.Context(), fetch.Object{URL: "s3://bucket/k"}, fetch.Range{Length: 1})
		if err == nil || tt.kind != nil && !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%d %s: error is %v, want %v, %q", tt.status, tt.code, err, tt.kind, tt.want)
		}
	}
	anonymous := answering(t, 403, "AccessDenied")
	anonymous.Options.Keys, anonymous.Options.Anonymous = nil, true
	_, err := anonymous.Stat(t.Context(), "s3://bucket/k")
	if !errors.Is(err, errNoCredentials) {
		t.Errorf("without credentials: error is %v", err)
	}
}

func TestPushURL(t *testing.T) {
	got := []string{PushURL("s3://b", "d"), PushURL("s3://b/team/?region=r", "d"), fetch.PiecesURL(PushURL("s3://b/x?region=r", "d"))}
	want := []string{"s3://b/blobs/sha256/d", "s3://b/team/blobs/sha256/d?region=r", "s3://b/x/blobs/sha256/d.pieces?region=r"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestStyle(t *testing.T) {
	for style, want := range map[string]string{"path": "http://storage.test/bucket/a/k", "host": "http://bucket.storage.test/a/k", "": "http://storage.test/bucket/a/k"} {
		got := ""
		s := &Storage{Options: Options{Endpoint: "http://storage.test", Style: style, Anonymous: true}}
		s.Options.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			if got == "" {
				got = r.URL.String()
			}
			return nil, errors.New("far away")
		})
		_, err := s.Stat(t.Context(), "s3://bucket/a/k")
		if got != want || err == nil || !strings.Contains(err.Error(), "far away") {
			t.Errorf("style %q asks for %s, %v; want %s", style, got, err, want)
		}
	}
}
