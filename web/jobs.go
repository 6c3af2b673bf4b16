package web

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/comfyrun/comfyrun/engine/queue"
)

// jobRoutes registers what newer editors show queue and history from. There is no /jobs without /api.
func (s *Server) jobRoutes() {
	api := routes{s, []gin.IRoutes{s.router.Group("/api")}}
	api.get("/jobs", read, s.getJobs)
	api.get("/jobs/:id", read, s.getJob)
	api.post("/jobs/:id/cancel", submit, s.cancelJob)
	api.post("/jobs/cancel", submit, s.cancelJobs)
}

// The words for where a job is.
const (
	jobPending   = "pending"
	jobRunning   = "in_progress"
	jobCompleted = "completed"
	jobFailed    = "failed"
	jobCancelled = "cancelled"
)

var jobStatuses = []string{jobPending, jobRunning, jobCompleted, jobFailed, jobCancelled}

// job is a prompt in queue or history. Times are milliseconds since 1970.
type job struct {
	ID          string          `json:"id"`
	Status      string          `json:"status"`
	Priority    json.RawMessage `json:"priority"`
	Created     int64           `json:"create_time"`
	Started     int64           `json:"execution_start_time,omitempty"`
	Ended       int64           `json:"execution_end_time,omitempty"`
	Error       json.RawMessage `json:"execution_error,omitempty"`
	Outputs     int             `json:"outputs_count"`
	Previewable *int            `json:"previewable_outputs_count,omitempty"`
	Preview     object          `json:"preview_output,omitempty"`
	Workflow    string          `json:"workflow_id,omitempty"`
}

func (j *job) duration() int64 {
	if j.Started == 0 || j.Ended == 0 {
		return 0
	}
	return j.Ended - j.Started
}

// jobQuery is what a list of jobs is to hold.
type jobQuery struct {
	statuses  []string
	workflow  string
	duration  bool // sorted by it instead of by creation
	ascending bool
	limit     int // 0: all
	offset    int
}

// readJobQuery reads the parameters of a request.
func readJobQuery(c *gin.Context) (q jobQuery, err error) {
	q.statuses = jobStatuses
	if text := c.Query("status"); text != "" {
		q.statuses = nil
		for status := range strings.SplitSeq(text, ",") {
			q.statuses = append(q.statuses, strings.ToLower(strings.TrimSpace(status)))
		}
	}
	q.workflow = c.Query("workflow_id")
	if i := slices.IndexFunc(q.statuses, func(status string) bool { return !slices.Contains(jobStatuses, status) }); i >= 0 {
		return q, fmt.Errorf("invalid status %q: use %s", q.statuses[i], strings.Join(jobStatuses, ", "))
	}
	if q.duration, err = oneOf(c, "sort_by", "created_at", "execution_duration"); err != nil {
		return q, err
	}
	if q.ascending, err = oneOf(c, "sort_order", "desc", "asc"); err != nil {
		return q, err
	}
	if text, ok := c.GetQuery("limit"); ok {
		if q.limit, err = strconv.Atoi(text); err != nil || q.limit <= 0 {
			return q, errors.New("limit is no positive integer")
		}
	}
	if text, ok := c.GetQuery("offset"); ok {
		if q.offset, err = strconv.Atoi(text); err != nil {
			return q, errors.New("offset is no integer")
		}
	}
	q.offset = max(q.offset, 0)
	return q, nil
}

// oneOf reads a parameter that has two values, and reports whether it is the second.
func oneOf(c *gin.Context, name, usual, other string) (bool, error) {
	switch text := strings.ToLower(c.DefaultQuery(name, usual)); text {
	case usual, other:
		return text == other, nil
	default:
		return false, fmt.Errorf("invalid %s %q: use %s or %s", name, text, usual, other)
	}
}

func (q jobQuery) wants(j *job) bool {
	return slices.Contains(q.statuses, j.Status) && (q.workflow == "" || q.workflow == j.Workflow)
}

// finished reports whether the query is about jobs that have ended.
func (q jobQuery) finished() bool {
	return slices.ContainsFunc(q.statuses, func(s string) bool { return s != jobPending && s != jobRunning })
}

// getJobs lists jobs.
func (s *Server) getJobs(c *gin.Context) {
	q, err := readJobQuery(c)
	if err != nil {
		s.answerJSON(c, http.StatusBadRequest, gin.H{"error": err.Error()})
		return
	}
	jobs, unread, err := s.jobs(c.Request.Context(), q)
	if err != nil {
		s.answerTrouble(c, err)
		return
	}
	total := len(jobs) + unread
	jobs = jobs[min(q.offset, len(jobs)):]
	var limit any
	if q.limit > 0 {
		limit = q.limit
		jobs = jobs[:min(q.limit, len(jobs))]
	}
	s.answerJSON(c, http.StatusOK, gin.H{"jobs": jobs, "pagination": gin.H{"offset": q.offset, "limit": limit, "total": total,
		"has_more": q.offset+len(jobs) < total}})
}

// newest is how many finished jobs, of so many, must be read for what an editor asks for again and again: the first page
// of all that ended, newest first. Where prompts overlapped, one that was created later may have ended earlier by a few
// places. For any other query all are read.
func (q jobQuery) newest(history int) int {
	const few, overlap = 500, 64
	for _, status := range jobStatuses[2:] {
		if !slices.Contains(q.statuses, status) {
			return history
		}
	}
	if q.limit == 0 || q.ascending || q.duration || q.workflow != "" || history <= few {
		return history
	}
	return min(q.offset+q.limit+overlap, history)
}

// jobs are the jobs that a query wants, sorted, and how many older ones follow.
func (s *Server) jobs(ctx context.Context, q jobQuery) (jobs []*job, unread int, err error) {
	list := s.Queue.List()
	prompts, err := s.Queue.Read(ctx, list)
	if err != nil {
		return nil, 0, err
	}
	jobs = []*job{}
	add := func(j *job) {
		if q.wants(j) {
			jobs = append(jobs, j)
		}
	}
	for i, info := range list {
		if prompts[i].Graph != nil {
			add(waitingJob(info, prompts[i]))
		}
	}
	if q.finished() {
		var ended []*job
		if ended, unread, err = s.finishedJobs(ctx, q); err != nil {
			return nil, 0, err
		}
		for _, j := range ended {
			add(j)
		}
	}
	slices.SortStableFunc(jobs, func(a, b *job) int {
		order := cmp.Or(cmp.Compare(a.Created, b.Created), cmp.Compare(a.ID, b.ID))
		if q.duration {
			order = cmp.Or(cmp.Compare(a.duration(), b.duration()), order)
		}
		if !q.ascending {
			order = -order
		}
		return order
	})
	return jobs, unread, nil
}

// finishedJobs are the newest jobs of the history, and how many are left out.
func (s *Server) finishedJobs(ctx context.Context, q jobQuery) (jobs []*job, unread int, err error) {
	history := s.Queue.Stats().History
	most := q.newest(history)
	page := queue.Page{}
	if most < history {
		page.MaxItems, unread = &most, history-most
	}
	entries, err := s.Queue.History(ctx, page)
	if err != nil {
		return nil, 0, err
	}
	for _, e := range entries {
		j, _ := finishedJob(e)
		jobs = append(jobs, j)
	}
	return jobs, unread, nil
}

// waitingJob is a prompt of the queue.
func waitingJob(i queue.Info, p queue.Prompt) *job {
	j := &job{ID: i.ID, Status: jobPending, Priority: numberText(i.Number, i.Assigned), Created: i.Created.UnixMilli(), Workflow: workflowID(p)}
	if i.State == queue.Running {
		j.Status, j.Started = jobRunning, i.Started.UnixMilli()
	}
	return j
}

// workflowID is the id that the editor gave the workflow.
func workflowID(p queue.Prompt) string {
	var extra struct {
		Info struct {
			Workflow struct{ ID any } `json:"workflow"`
		} `json:"extra_pnginfo"`
	}
	if json.Unmarshal(p.Extra, &extra) != nil { // it may have any shape
		return ""
	}
	id, _ := extra.Info.Workflow.ID.(string)
	return id
}

// runRecord is what a worker records of a run.
type runRecord struct {
	Outputs object          `json:"outputs"`
	Status  json.RawMessage `json:"status"`
}

// finishedJob is a prompt of the history.
func finishedJob(e queue.Entry) (*job, runRecord) {
	j := &job{ID: e.ID, Status: jobCompleted, Priority: numberText(e.Number, e.Assigned), Created: e.Created.UnixMilli(),
		Started: e.Started.UnixMilli(), Ended: e.Finished.UnixMilli(), Workflow: workflowID(e.Prompt)}
	switch e.State {
	case queue.Failed:
		j.Status = jobFailed
	case queue.Cancelled:
		j.Status = jobCancelled
	}
	var r runRecord
	if json.Unmarshal(e.Result, &r) != nil || r.Status == nil {
		r.Status, _ = asciiJSON(noResult(e.Info).Get("status"))
	}
	j.readMessages(r.Status)
	found := findOutputs(r.Outputs)
	j.Outputs, j.Previewable, j.Preview = found.count, &found.previewable, found.preview
	return j, r
}

// readMessages takes times and error from the messages of a run's status.
func (j *job) readMessages(status json.RawMessage) {
	var s struct{ Messages [][]json.RawMessage }
	if json.Unmarshal(status, &s) != nil {
		return // a result without messages
	}
	for _, m := range s.Messages {
		var name string
		var data struct{ Timestamp int64 }
		if len(m) != 2 || json.Unmarshal(m[0], &name) != nil || json.Unmarshal(m[1], &data) != nil || data.Timestamp == 0 {
			continue
		}
		switch name {
		case "execution_start":
			j.Started = data.Timestamp
		case "execution_success":
			j.Ended = data.Timestamp
		case "execution_error", "execution_interrupted":
			j.Ended, j.Error = data.Timestamp, m[1]
		}
	}
}

// getJob shows a job with its workflow, and with its outputs when it has ended.
func (s *Server) getJob(c *gin.Context) {
	out, err := s.jobDetails(c.Request.Context(), c.Param("id"))
	switch {
	case err != nil:
		s.answerTrouble(c, err)
	case out == nil:
		s.answerJSON(c, http.StatusNotFound, gin.H{"error": "Job not found"})
	default:
		s.answerJSON(c, http.StatusOK, out)
	}
}

// details is a job with all that is known of it.
type details struct {
	*job
	Outputs  object          `json:"outputs,omitempty"`
	Status   json.RawMessage `json:"execution_status,omitempty"`
	Workflow gin.H           `json:"workflow"`
}

func (s *Server) jobDetails(ctx context.Context, id string) (*details, error) {
	workflow := func(p queue.Prompt) gin.H { return gin.H{"prompt": shownGraph(p.Graph), "extra_data": p.Extra} }
	for _, info := range s.Queue.List() {
		if info.ID != id {
			continue
		}
		prompts, err := s.Queue.Read(ctx, []queue.Info{info})
		if err != nil {
			return nil, err
		}
		if prompts[0].Graph != nil {
			return &details{job: waitingJob(info, prompts[0]), Workflow: workflow(prompts[0])}, nil
		}
	}
	e, ok, err := s.Queue.Entry(ctx, id)
	if err != nil || !ok || e.Attempts == 0 {
		return nil, err
	}
	j, r := finishedJob(e)
	return &details{j, r.Outputs, r.Status, workflow(e.Prompt)}, nil
}

// cancelJob cancels one job, wherever it is.
func (s *Server) cancelJob(c *gin.Context) {
	s.cancelAll(c, []string{c.Param("id")})
}

// cancelJobs cancels several jobs.
func (s *Server) cancelJobs(c *gin.Context) {
	fields, err := readRequest(c)
	var items []any
	if err == nil {
		err = json.Unmarshal(fields["job_ids"], &items)
	}
	if err != nil || items == nil {
		s.answerJSON(c, http.StatusBadRequest, gin.H{"error": "job_ids must be a list of job ids"})
		return
	}
	var ids []string
	var invalid []any
	for _, item := range items {
		if id, ok := item.(string); ok && id != "" {
			ids = append(ids, id)
		} else {
			invalid = append(invalid, item)
		}
	}
	if len(invalid) > 0 {
		s.answerJSON(c, http.StatusBadRequest, gin.H{"error": "job_ids holds what is no id", "invalid_ids": invalid})
		return
	}
	s.cancelAll(c, ids)
}

func (s *Server) cancelAll(c *gin.Context, ids []string) {
	cancelled := false
	for _, id := range ids {
		one, err := s.cancel(c.Request.Context(), id, queue.Running, queue.Queued, queue.Lost)
		if err != nil {
			s.answerTrouble(c, err)
			return
		}
		cancelled = cancelled || one
	}
	if cancelled {
		s.tellStatus()
	}
	s.answerJSON(c, http.StatusOK, gin.H{"cancelled": cancelled})
}
