package web

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener whose connections are pipes: in a bubble of synctest their deadlines go by its clock.
type pipes chan net.Conn

// servePipes serves a handler on pipes until the test ends.
func servePipes(t *testing.T, h http.Handler) pipes {
	p := make(pipes)
	server := &http.Server{Handler: h}
	go server.Serve(p)
	t.Cleanup(func() { server.Close() })
	return p
}

func (p pipes) Accept() (net.Conn, error) {
	conn, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (p pipes) Close() error {
	close(p)
	return nil
}

func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// dial connects a client and sends the beginning of a request.
func (p pipes) dial(t *testing.T, request string) net.Conn {
	t.Helper()
	client, server := net.Pipe()
	t.Cleanup(func() { client.Close() })
	p <- server
	if _, err := io.WriteString(client, request); err != nil {
		t.Fatal(err)
	}
	return client
}

// status reads an answer.
func status(t *testing.T, conn net.Conn) int {
	t.Helper()
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	return answer.StatusCode
}

// A client that begins a body and never goes on is answered and let go.
func TestSlowBody(t *testing.T) {
	s, _, _ := recorded(t, Options{})
	for _, path := range []string{"/settings", "/userdata/slow.txt", "/upload/image"} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			conn := servePipes(t, s.Handler()).dial(t, plain("POST", path, "Content-Length: 1000", "Content-Type: multipart/form-data; boundary=b")+"--b")
			if got := status(t, conn); got != http.StatusRequestTimeout || time.Since(start).Truncate(time.Second) != patience {
				t.Errorf("%s answers %d after %v", path, got, time.Since(start))
			}
		})
	}
}

// A client is served that sends steadily, if more slowly than the wind, and let go when it sends a byte now and then.
func TestSteadyBody(t *testing.T) {
	s, _, base := recorded(t, Options{})
	for _, c := range []struct{ pieces, piece, status int }{
		{60, bodyRate, http.StatusOK},
		{60, 1, http.StatusRequestTimeout},
	} {
		name := fmt.Sprintf("steady%d.txt", c.piece)
		synctest.Test(t, func(t *testing.T) {
			conn := servePipes(t, s.Handler()).dial(t, plain("POST", "/userdata/"+name, fmt.Sprintf("Content-Length: %d", c.pieces*c.piece)))
			var sending sync.WaitGroup
			sending.Go(func() {
				for range c.pieces {
					time.Sleep(time.Second)
					io.WriteString(conn, strings.Repeat("x", c.piece)) // the server may have gone
				}
			})
			if got := status(t, conn); got != c.status {
				t.Errorf("%d bytes a second are answered with %d", c.piece, got)
			}
			conn.Close()
			sending.Wait()
		})
		info, err := os.Stat(filepath.Join(base, "user", "default", name))
		if there := err == nil && info.Size() == int64(c.pieces*c.piece); there != (c.status == http.StatusOK) {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
}

// The time that a handler takes between two reads is not the client's.
func TestSlowHandler(t *testing.T) {
	const pieces, piece = 10, 64 << 10 // more than what is read ahead
	synctest.Test(t, func(t *testing.T) {
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b := &body{src: r.Body, left: pieces * piece, patience: patience, control: http.NewResponseController(w)}
			for i := range pieces {
				if _, err := io.ReadFull(b, make([]byte, piece)); err != nil {
					t.Errorf("piece %d: %v", i, err)
				}
				time.Sleep(2 * patience)
			}
		})
		conn := servePipes(t, h).dial(t, plain("POST", "/", fmt.Sprintf("Content-Length: %d", pieces*piece)))
		go io.WriteString(conn, strings.Repeat("x", pieces*piece))
		if got := status(t, conn); got != http.StatusOK {
			t.Error(got)
		}
	})
}

// A client that asks for much and does not read is let go.
func TestSlowReader(t *testing.T) {
	s, _, base := recorded(t, Options{})
	if err := os.WriteFile(filepath.Join(base, "output", "large.bin"), make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		done := make(chan struct{})
		start := time.Now()
		servePipes(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer close(done)
			s.Handler().ServeHTTP(w, r)
		})).dial(t, plain("GET", "/view?filename=large.bin"))
		if <-done; time.Since(start).Truncate(time.Second) != patience {
			t.Errorf("the handler waits for %v", time.Since(start))
		}
	})
}
