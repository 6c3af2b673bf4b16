package golden

import (
	"encoding/xml"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// Report is the results of a command.
type Report struct {
	Results []Result
	Engine  string // see Stamp
	Started time.Time
	Seconds float64
}

// Count is the number of results of a status.
func (r Report) Count(status string) int {
	n := 0
	for _, result := range r.Results {
		if result.Status == status {
			n++
		}
	}
	return n
}

// Summary is the counts in a line, such as "3 passed, 1 failed".
func (r Report) Summary() string {
	var parts []string
	for _, status := range []string{Passed, Failed, Broken, Updated, Skipped, Unmoved, NoGolden, Orphan} {
		if n := r.Count(status); n > 0 || status == Passed {
			parts = append(parts, fmt.Sprintf("%d %s", n, status))
		}
	}
	return strings.Join(parts, ", ")
}

// Text is what became of a picture in a line.
func (p Picture) Text() string {
	switch {
	case p.Problem != "" && p.Compared:
		return fmt.Sprintf("%s; ssim %.4f, phash %d", p.Problem, p.Difference.SSIM, p.Difference.PHash)
	case p.Problem != "":
		return p.Problem
	}
	return p.Difference.String()
}

// Label names a picture within its test: by its key, or as "picture".
func (p Picture) Label() string {
	if p.Key == "" {
		return "picture"
	}
	return p.Key
}

// Text is why a test ended as it did, in a line.
func (r Result) Text() string {
	var parts []string
	if r.Err != nil {
		parts = append(parts, r.Err.Error())
	}
	if r.Detail != "" {
		parts = append(parts, r.Detail)
	}
	for _, p := range r.Pictures {
		if r.Status == NoGolden || r.Status == Updated || r.Status == Failed && p.Problem == "" {
			continue
		}
		text := p.Text()
		if len(r.Pictures) > 1 {
			text = p.Label() + ": " + text
		}
		parts = append(parts, text)
	}
	return joined(parts)
}

func joined(parts []string) string { return strings.Join(parts, ", ") }

// The form of JUnit's XML that CI systems read.
type (
	junitSuites struct {
		XMLName  xml.Name `xml:"testsuites"`
		Tests    int      `xml:"tests,attr"`
		Failures int      `xml:"failures,attr"`
		Errors   int      `xml:"errors,attr"`
		Skipped  int      `xml:"skipped,attr"`
		Time     string   `xml:"time,attr"`
		Suite    junitSuite
	}
	junitSuite struct {
		XMLName    xml.Name        `xml:"testsuite"`
		Name       string          `xml:"name,attr"`
		Tests      int             `xml:"tests,attr"`
		Failures   int             `xml:"failures,attr"`
		Errors     int             `xml:"errors,attr"`
		Skipped    int             `xml:"skipped,attr"`
		Time       string          `xml:"time,attr"`
		Timestamp  string          `xml:"timestamp,attr"`
		Properties []junitProperty `xml:"properties>property"`
		Cases      []junitCase     `xml:"testcase"`
	}
	junitProperty struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	}
	junitCase struct {
		Name    string        `xml:"name,attr"`
		Class   string        `xml:"classname,attr"`
		File    string        `xml:"file,attr,omitempty"`
		Time    string        `xml:"time,attr"`
		Failure *junitMessage `xml:"failure"`
		Error   *junitMessage `xml:"error"`
		Skipped *junitMessage `xml:"skipped"`
		Output  string        `xml:"system-out,omitempty"`
	}
	junitMessage struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr,omitempty"`
	}
)

// JUnit writes the report as JUnit XML. An orphan is a failure; a test without a
// golden, or one that was skipped, is skipped.
func (r Report) JUnit() ([]byte, error) {
	suite := junitSuite{
		Name: "comfyrun test", Tests: len(r.Results), Failures: r.Count(Failed) + r.Count(Orphan), Errors: r.Count(Broken),
		Skipped: r.Count(NoGolden) + r.Count(Skipped) + r.Count(Unmoved), Time: junitTime(r.Seconds), Timestamp: r.Started.UTC().Format("2006-01-02T15:04:05"),
		Properties: []junitProperty{{"engine", r.Engine}},
	}
	for _, result := range r.Results {
		suite.Cases = append(suite.Cases, result.junit())
	}
	all := junitSuites{Tests: suite.Tests, Failures: suite.Failures, Errors: suite.Errors, Skipped: suite.Skipped, Time: suite.Time, Suite: suite}
	text, err := xml.MarshalIndent(all, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write JUnit report: %w", err)
	}
	return append(append([]byte(xml.Header), text...), '\n'), nil
}

func (r Result) junit() junitCase {
	name := filepath.ToSlash(r.Name)
	c := junitCase{Name: name[strings.LastIndexByte(name, '/')+1:], Class: filepath.ToSlash(filepath.Dir(r.Name)), File: filepath.ToSlash(r.Workflow), Time: junitTime(r.Seconds)}
	message := &junitMessage{Message: r.Text(), Type: r.Status}
	switch r.Status {
	case Failed, Orphan:
		c.Failure = message
	case Broken:
		c.Error = message
	case NoGolden, Skipped, Unmoved:
		message.Message = joined(nonEmpty(r.Status, message.Message))
		c.Skipped = message
	default:
		c.Output = message.Message
	}
	return c
}

func nonEmpty(parts ...string) []string {
	var out []string
	for _, p := range parts {
		if p != "" {
			out = append(out, p)
		}
	}
	return out
}

func junitTime(seconds float64) string { return fmt.Sprintf("%.3f", seconds) }
