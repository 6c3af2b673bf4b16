package web

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/engine/queue"
)

// BenchmarkPostPrompt has ten clients post prompts of the size of a usual workflow; p99 is the time that all but one in a
// hundred of them wait for the answer.
func BenchmarkPostPrompt(b *testing.B) {
	for name, options := range map[string]queue.Options{
		"memory": {Memory: true, MaxQueued: 1 << 30}, "disk": {Dir: b.TempDir(), MaxQueued: 1 << 30},
	} {
		b.Run(name, func(b *testing.B) {
			if options.Dir != "" {
				options.Dir = b.TempDir()
			}
			s := newStage(b, options)
			body := usualPrompt()
			b.ReportAllocs()
			b.ResetTimer()
			took := postAll(b, s.url, body, b.N)
			b.StopTimer()
			slices.Sort(took)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "prompts/s")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}

// usualPrompt has a sampler's number of nodes, links and literals.
func usualPrompt() []byte {
	var b bytes.Buffer
	b.WriteString(`{"client_id":"bench","prompt":{`)
	for i := range 6 {
		fmt.Fprintf(&b, `"%d":{"class_type":"FxEcho","inputs":{"i":%d,"f":0.5,"s":"a castle on a hill in the evening, oil on canvas, detailed",`+
			`"b":true,"c":"a","opt":3},"_meta":{"title":"Node %d"}},`, i, i, i)
	}
	b.WriteString(`"7":{"class_type":"EmptyImage","inputs":{"width":512,"height":512,"batch_size":1,"color":0}},` +
		`"8":{"class_type":"ImageInvert","inputs":{"image":["7",0]}},` +
		`"9":{"class_type":"SaveImage","inputs":{"images":["8",0],"filename_prefix":"ComfyUI"}}},` +
		`"extra_data":{"extra_pnginfo":{"workflow":{"id":"w","nodes":[` + string(bytes.Repeat([]byte(`{"id":1,"type":"FxEcho","pos":[1,2]},`), 50)) + `{}]}}}}`)
	return b.Bytes()
}

func postAll(b *testing.B, url string, body []byte, n int) []time.Duration {
	const clients = 10
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	took := make([]time.Duration, n)
	var next atomic.Int64
	var group sync.WaitGroup
	for range clients {
		group.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				start := time.Now()
				response, err := client.Post(url+"/prompt", "application/json", bytes.NewReader(body))
				if err != nil {
					b.Error(err)
					return
				}
				io.Copy(io.Discard, response.Body)
				response.Body.Close()
				if response.StatusCode != http.StatusOK {
					b.Errorf("status %d", response.StatusCode)
					return
				}
				took[i] = time.Since(start)
			}
		})
	}
	group.Wait()
	return took
}
