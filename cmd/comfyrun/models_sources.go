package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/models/demo"
	"github.com/comfyrun/comfyrun/engine/models/fetch"
	"github.com/comfyrun/comfyrun/engine/models/s3"
	"github.com/comfyrun/comfyrun/engine/weights"
)

// sourceFlags say how model files are fetched.
type sourceFlags struct {
	connections int
	rate        sizeFlag
	ca          string
	storage     s3.Options
	hub         string
	hubToken    string
}

func (f *sourceFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.IntVar(&f.connections, "connections", 8, "requests at one time, over all files")
	flags.Var(&f.rate, "rate", "most bytes per second over all files, such as 50MB (default without bound)")
	flags.StringVar(&f.ca, "ca-file", "", "certificates in PEM form to trust beside the system's")
	flags.StringVar(&f.storage.Endpoint, "s3-endpoint", "", "URL of the object storage (default the cloud of the source's scheme)")
	flags.StringVar(&f.storage.Region, "s3-region", "", "region of the object storage")
	flags.StringVar(&f.storage.Style, "s3-style", "", "path or host: where the bucket's name goes (default as usual for the endpoint)")
	flags.BoolVar(&f.storage.Anonymous, "s3-anonymous", false, "send no credentials to object storage")
	flags.StringVar(&f.hub, "hf-endpoint", "", "where hf: sources are (default https://huggingface.co)")
	flags.StringVar(&f.hubToken, "hf-token", "", "token for hf: sources; better in COMFYRUN_HF_TOKEN or HF_TOKEN")
}

func (f *sourceFlags) check() error {
	switch {
	case f.connections < 1 || f.connections > 256:
		return usagef("read --connections: %d is not between 1 and 256", f.connections)
	case f.storage.Style != "" && f.storage.Style != "path" && f.storage.Style != "host":
		return usagef("read --s3-style: %q is none of path and host", f.storage.Style)
	}
	return nil
}

// fetcher returns what fetches into home's store.
func (f *sourceFlags) fetcher(home Home, folders *models.Folders, digests *weights.Digests) (*fetch.Fetcher, *s3.Storage, error) {
	if err := f.check(); err != nil {
		return nil, nil, err
	}
	transport, err := fetch.NewTransport(f.ca)
	if err != nil {
		return nil, nil, asUsage(err)
	}
	web := &fetch.Web{Client: fetch.NewClient(transport)}
	options := f.storage
	options.Transport = transport
	storage := &s3.Storage{Options: options}
	token := f.hubToken
	if token == "" {
		token = hubToken()
	}
	return &fetch.Fetcher{
		Store: &models.Store{Dir: string(home)}, Folders: folders, Sums: digests,
		Connections: f.connections, Rate: int64(f.rate),
		Sources: map[string]fetch.Source{
			"embed": fetch.Stream{Fetcher: demo.Source{}}, "file": fetch.Files{}, "http": web, "https": web,
			"hf": &fetch.Hub{Web: *web, Endpoint: f.hub, Token: token}, "s3": storage, "oss": storage, "gs": storage,
		},
	}, storage, nil
}

// sizeFlag is a number of bytes with a unit: 500k, 50MB, 1GiB.
type sizeFlag int64

var sizeUnits = map[string]int64{
	"": 1, "b": 1, "k": 1e3, "kb": 1e3, "m": 1e6, "mb": 1e6, "g": 1e9, "gb": 1e9, "t": 1e12, "tb": 1e12,
	"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}

func (s *sizeFlag) String() string {
	if *s == 0 {
		return ""
	}
	return strconv.FormatInt(int64(*s), 10)
}
func (s *sizeFlag) Type() string { return "size" }
func (s *sizeFlag) Set(text string) error {
	digits := strings.TrimRight(strings.ToLower(strings.TrimSpace(text)), "bgikmt ")
	unit, known := sizeUnits[strings.TrimSpace(strings.ToLower(strings.TrimSpace(text))[len(digits):])]
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || !known || n < 0 || n*float64(unit) > 1<<62 {
		return fmt.Errorf("%q is no size such as 500k, 50MB or 1GiB", text)
	}
	*s = sizeFlag(n * float64(unit))
	return nil
}

// sizeText is a number of bytes for people.
func sizeText(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.2f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%d B", n)
}
