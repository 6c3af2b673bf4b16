package webtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"testing"
)

// Transcript is one recorded scenario, on a freshly started server.
type Transcript struct {
	Name, About, Base string
	Flags             []string // of the recorded server
	Steps             []Step
}

// Step is one request with the answer to it. Note says what it is about.
type Step struct {
	Note     string
	Request  Request
	Response Response
}

// Request is what is sent. Path is escaped as it was sent; {{first}} in it is
// the prompt_id of the first answer. One of JSON, Text and Multipart is the
// body, or none.
type Request struct {
	Method, Path string
	Headers      map[string]string
	JSON         json.RawMessage
	Text         *string
	Multipart    []Part
}

// Part is a field of a form: a value, or a file of Uploads.
type Part struct {
	Name, Value, File, Filename string
	ContentType                 string `json:"content_type"`
}

// Response is what was answered. Of the members below the headers those that
// are there are compared.
type Response struct {
	Status  int
	Headers map[string]string
	JSON    json.RawMessage
	Text    *string
	Picture *Picture `json:"image"`
	Keys    []string `json:"json_keys_in_order"`
}

// Picture is what a picture file holds.
type Picture struct {
	Format, Mode  string
	Width, Height int
	Pixels        string                     `json:"pixels_sha256"` // of the pixels as RGBA, 8 bits
	Text          map[string]json.RawMessage // the text chunks of a PNG
}

// Load reads a transcript file.
func Load(t testing.TB, file string) *Transcript {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	tr := new(Transcript)
	if err := json.Unmarshal(data, tr); err != nil {
		t.Fatalf("read transcript %s: %v", file, err)
	}
	return tr
}

// Event is one line of a recorded socket conversation: something that a socket,
// named by a letter, received or sent, or a request beside the sockets.
type Event struct {
	Socket     string `json:"ws"`
	Connect    string // path of the connection
	Recv       json.RawMessage
	RecvBinary json.RawMessage `json:"recv_binary"`
	Send       json.RawMessage
	SendText   string `json:"send_text"` // as it is, no JSON
	Close      bool   // by the client
	Closed     bool
	Request    *Request
	Response   *Response
	Note       string
}

// Conversation is a recorded scenario with sockets.
type Conversation struct {
	Name, About, Base string
	Flags             []string
	Events            []Event `json:"-"`
}

// LoadConversation reads a file with one event a line, after a line on the whole.
func LoadConversation(t testing.TB, file string) *Conversation {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c := new(Conversation)
	for i, line := range bytes.Split(bytes.TrimSpace(data), []byte("\n")) {
		var e Event
		if i == 0 {
			err = json.Unmarshal(line, c)
		} else if err = json.Unmarshal(line, &e); err == nil {
			c.Events = append(c.Events, e)
		}
		if err != nil {
			t.Fatal(fmt.Errorf("read conversation %s, line %d: %w", file, i+1, err))
		}
	}
	return c
}
