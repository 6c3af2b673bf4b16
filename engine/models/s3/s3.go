// Package s3 reads model files from object storage that speaks Amazon's S3 protocol, and puts them there: Amazon, MinIO,
// Ceph, Cloudflare R2, Alibaba Cloud OSS, Google Cloud Storage through its interoperability interface.
//
// Vocabulary: a source is s3://BUCKET/KEY, or oss:// or gs:// for the endpoints of those clouds. What follows a question
// mark decides for this source alone: endpoint=URL, region=NAME, style=path or host (whether the bucket is part of the path or of
// the host's name), versionId=ID.
package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/comfyrun/comfyrun/engine/models/fetch"
)

// Options say how to reach object storage when a source does not say it itself.
type Options struct {
	Endpoint  string // "https://host:port" or "host:port", which is https; "" stands for the scheme's cloud
	Region    string // "" asks, or takes us-east-1 when there is an endpoint
	Style     string // "path", "host" or "" for what is usual for the endpoint
	Anonymous bool   // send no credentials, though there may be some
	// Keys are credentials that go before those found; nil for none. Found are, in this order, those of the variables
	// AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, MINIO_ROOT_USER and MINIO_ROOT_PASSWORD, the files ~/.aws/credentials and
	// ~/.mc/config.json, and those that the machine or the pod was given.
	Keys *Keys
	// Transport carries the requests; nil stands for one of package fetch.
	Transport http.RoundTripper
}

// Keys are an access key and its secret.
type Keys struct{ ID, Secret, Token string }

// Storage is a fetch.Source and the way to put files there. The zero value reads Amazon's.
type Storage struct {
	Options Options

	mu      sync.Mutex
	clients map[target]*client
}

// target is what a client is made for.
type target struct{ endpoint, region, style string }

// client talks to one endpoint.
type client struct {
	minio.Core
	creds *credentials.Credentials
}

// place is where an object lies.
type place struct {
	target
	bucket, key, version string
}

// clouds are the endpoints of schemes. In that of OSS %s is the region.
var clouds = map[string]string{
	"s3": "https://s3.amazonaws.com", "gs": "https://storage.googleapis.com", "oss": "https://oss-%s.aliyuncs.com",
}

// place reads a source.
func (s *Storage) place(source string) (place, error) {
	u, err := url.Parse(source)
	if err != nil {
		return place{}, err
	}
	q := u.Query()
	p := place{bucket: u.Host, key: strings.TrimPrefix(u.Path, "/"), version: q.Get("versionId")}
	p.endpoint, p.region, p.style = s.Options.Endpoint, s.Options.Region, s.Options.Style
	for key, to := range map[string]*string{"endpoint": &p.endpoint, "region": &p.region, "style": &p.style} {
		if q.Has(key) {
			*to = q.Get(key)
		}
	}
	if p.bucket == "" {
		return place{}, fmt.Errorf("%s must be %s://BUCKET/KEY", source, u.Scheme)
	}
	if p.style != "" && p.style != "path" && p.style != "host" {
		return place{}, fmt.Errorf("%s: style is %q, want path or host", source, p.style)
	}
	return p.completed(u.Scheme)
}

// completed fills in what a scheme's cloud implies.
func (p place) completed(scheme string) (place, error) {
	cloud, known := clouds[scheme]
	if !known {
		return place{}, fmt.Errorf("%s: is no object storage", scheme)
	}
	if p.endpoint == "" && strings.Contains(cloud, "%s") {
		if p.region == "" {
			return place{}, fmt.Errorf("%s://%s needs a region or an endpoint", scheme, p.bucket)
		}
		cloud = fmt.Sprintf(cloud, strings.TrimPrefix(p.region, "oss-"))
	}
	switch {
	case p.endpoint == "":
		p.endpoint = cloud
	case p.region == "":
		p.region = "us-east-1"
	}
	if scheme == "oss" && p.style == "" {
		p.style = "host"
	}
	return p, nil
}

// client returns the client of a place, made once.
func (s *Storage) client(p place) (*client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.clients[p.target]; c != nil {
		return c, nil
	}
	c, err := s.newClient(p.target)
	if err != nil {
		return nil, fmt.Errorf("reach %s: %w", p.endpoint, err)
	}
	if s.clients == nil {
		s.clients = map[target]*client{}
	}
	s.clients[p.target] = c
	return c, nil
}

func (s *Storage) newClient(t target) (*client, error) {
	address := t.endpoint
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("endpoint must be http:// or https:// and a host")
	}
	transport := s.Options.Transport
	if transport == nil {
		if transport, err = fetch.NewTransport(""); err != nil {
			return nil, err
		}
	}
	creds := s.credentials()
	core, err := minio.NewCore(u.Host, &minio.Options{
		Creds: creds, Secure: u.Scheme == "https", Transport: transport, Region: t.region, MaxRetries: 1,
		BucketLookup: map[string]minio.BucketLookupType{"": minio.BucketLookupAuto, "path": minio.BucketLookupPath, "host": minio.BucketLookupDNS}[t.style],
	})
	if err != nil {
		return nil, err
	}
	return &client{*core, creds}, nil
}

// credentials is the chain that Options documents. Asking a machine that gives none takes a second, once.
func (s *Storage) credentials() *credentials.Credentials {
	switch {
	case s.Options.Anonymous:
		return credentials.NewStatic("", "", "", credentials.SignatureAnonymous)
	case s.Options.Keys != nil:
		k := s.Options.Keys
		return credentials.NewStaticV4(k.ID, k.Secret, k.Token)
	}
	quick := &http.Client{Timeout: time.Second, Transport: &http.Transport{Proxy: nil}}
	return credentials.NewChainCredentials([]credentials.Provider{
		&credentials.EnvAWS{}, &credentials.EnvMinio{}, &credentials.FileAWSCredentials{}, &credentials.FileMinioClient{},
		&credentials.IAM{Client: quick},
	})
}

// Stat looks up an object.
func (s *Storage) Stat(ctx context.Context, source string) (fetch.Object, error) {
	p, c, err := s.open(source)
	if err != nil {
		return fetch.Object{}, err
	}
	info, err := c.StatObject(ctx, p.bucket, p.key, minio.StatObjectOptions{VersionID: p.version})
	if err != nil {
		return fetch.Object{}, c.explainAbsence(ctx, err, p)
	}
	return fetch.Object{URL: source, Size: info.Size, Version: info.ETag}, nil
}

// Open reads a part of an object, on the condition that its ETag is the same.
func (s *Storage) Open(ctx context.Context, o fetch.Object, r fetch.Range) (io.ReadCloser, error) {
	p, c, err := s.open(o.URL)
	if err != nil {
		return nil, err
	}
	options := minio.GetObjectOptions{VersionID: p.version}
	if o.Version != "" {
		err = options.SetMatchETag(o.Version)
	}
	if r.Length > 0 && err == nil {
		err = options.SetRange(r.Offset, r.Offset+r.Length-1)
	}
	if err != nil {
		return nil, err
	}
	body, _, _, err := c.GetObject(ctx, p.bucket, p.key, options)
	if err != nil {
		return nil, c.explain(err, p)
	}
	return body, nil
}

func (s *Storage) open(source string) (place, *client, error) {
	p, err := s.place(source)
	if err != nil {
		return p, nil, err
	}
	if p.key == "" {
		return p, nil, fmt.Errorf("%s names a bucket and no object", source)
	}
	c, err := s.client(p)
	return p, c, err
}

// List returns the objects whose keys begin with that of a source, in the order of their keys.
func (s *Storage) List(ctx context.Context, source string) ([]fetch.Object, error) {
	p, err := s.place(source)
	if err != nil {
		return nil, err
	}
	c, err := s.client(p)
	if err != nil {
		return nil, err
	}
	_, query, found := strings.Cut(source, "?")
	if found {
		query = "?" + query
	}
	scheme, _, _ := strings.Cut(source, "://")
	var objects []fetch.Object
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for info := range c.Client.ListObjects(ctx, p.bucket, minio.ListObjectsOptions{Prefix: p.key, Recursive: true}) {
		if info.Err != nil {
			return nil, fmt.Errorf("list %s: %w", source, c.explain(info.Err, p))
		}
		u := url.URL{Scheme: scheme, Host: p.bucket, Path: "/" + info.Key}
		objects = append(objects, fetch.Object{URL: u.String() + query, Size: info.Size, Version: info.ETag})
	}
	return objects, nil
}

// errNoCredentials is why access is denied when there was nothing to show.
var errNoCredentials = errors.New("no credentials were found: not in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, nor in " +
	"MINIO_ROOT_USER and MINIO_ROOT_PASSWORD, ~/.aws/credentials, ~/.mc/config.json or the machine's role")
