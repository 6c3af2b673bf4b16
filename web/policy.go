package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/policy"
	"github.com/comfyrun/comfyrun/engine/queue"
	"github.com/comfyrun/comfyrun/engine/tracing"
)

// notAllowedByPolicy makes a policy's refusal the answer to a prompt; other errors, nil included, stay.
func (s *Server) notAllowedByPolicy(err error) error {
	refusal, ok := errors.AsType[*policy.Refusal](err)
	if !ok {
		return err
	}
	s.Metrics.Refused()
	r := refused(string(policy.Violation), "This server's policy does not allow the workflow.", refusal.Reason)
	r.NodeErrors = nodeErrors(refusal.Nodes)
	return r
}

// checkPlan checks a plan against the policy.
func (s *Server) checkPlan(plan *engine.Plan) error {
	return s.notAllowedByPolicy(s.Policy.Check(plan))
}

// checkSize checks the size of a prompt against the policy.
func (s *Server) checkSize(data []byte) error {
	err := s.notAllowedByPolicy(s.Policy.CheckSize(len(data)))
	if r, ok := errors.AsType[*rejection](err); ok {
		return r.with(http.StatusRequestEntityTooLarge, 0)
	}
	return err
}

// submitPrompt puts a checked prompt on the queue, with what the request says of its owner, its trace, and who is told of its end.
// It goes on when the client has gone, which may ask again.
func (s *Server) submitPrompt(c *gin.Context, p queue.Prompt) (queue.Receipt, error) {
	who, _ := identity(c)
	p.Owner, p.Trace = who.Name, tracing.Carry(c.Request.Header)
	target, err := s.Webhooks.Target(webhookURL(c.Request, p.Extra))
	if err != nil {
		return queue.Receipt{}, refused("webhook_not_allowed", "This server cannot call the webhook.", err.Error())
	}
	ctx := context.WithoutCancel(c.Request.Context())
	if limit := s.Policy.Queued(p.Owner); limit > 0 {
		// Within this process nobody gets in between; another replica might.
		s.quotas.Lock()
		defer s.quotas.Unlock()
		if err := s.checkQuota(p.Owner, limit); err != nil {
			return queue.Receipt{}, err
		}
	}
	if target == "" {
		return s.Queue.Submit(ctx, p)
	}
	return s.submitWithWebhook(ctx, p, target)
}

// submitWithWebhook notes who is to be told before the prompt can run, and forgets it when that is not needed.
func (s *Server) submitWithWebhook(ctx context.Context, p queue.Prompt, target string) (queue.Receipt, error) {
	if p.ID == "" {
		p.ID = queue.NewID(p.IdempotencyKey)
	}
	forget, err := s.Webhooks.Expect(p.ID, target)
	if err != nil {
		return queue.Receipt{}, err
	}
	receipt, err := s.Queue.Submit(ctx, p)
	if err != nil || receipt.Duplicate {
		forget()
	}
	return receipt, err
}

// checkQuota counts what a token has in the queue.
func (s *Server) checkQuota(owner string, limit int) error {
	n := 0
	for _, i := range s.Queue.List() {
		if i.Owner == owner {
			n++
		}
	}
	if n < limit {
		return nil
	}
	const soon = 5 // seconds
	s.Metrics.Refused()
	return refused("quota_exceeded", "Too many prompts of this token are waiting or running.", fmt.Sprintf("%d are, allowed are %d", n, limit)).
		with(http.StatusTooManyRequests, soon)
}

// webhookHeader names a webhook for clients that leave extra_data alone.
const webhookHeader = "X-Webhook-Url"

// webhookURL is who the request wants to be told of the prompt's end: extra_data.webhook_url, or the header.
func webhookURL(r *http.Request, extra json.RawMessage) string {
	if bytes.Contains(extra, []byte(`"webhook_url"`)) {
		var named struct {
			URL string `json:"webhook_url"`
		}
		if json.Unmarshal(extra, &named) == nil && named.URL != "" {
			return named.URL
		}
	}
	return r.Header.Get(webhookHeader)
}
