package main

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/engine/policy"
	"github.com/comfyrun/comfyrun/nodes"
	"github.com/comfyrun/comfyrun/web"
	"github.com/comfyrun/comfyrun/web/auth"
	"github.com/comfyrun/comfyrun/web/remote"
)

// safetyFlags are the flags of serve that say who may do what, and what is called because a client wants it.
type safetyFlags struct {
	tokens, policy string
	noAuth         bool
	inputs         []string // patterns of URLs
	hooks          []string // patterns of URLs
	hookDefault    string
	hookSecret     string // file
	networks       []string
}

func (f *safetyFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.tokens, "tokens", "", "file of the tokens that clients need (comfyrun token makes one)")
	flags.BoolVar(&f.noAuth, "no-auth", false, "serve everybody who can reach an address that is not this machine's own")
	flags.StringVar(&f.policy, "policy", "", "TOML file of what workflows may do: node types, models, sizes, steps")
	flags.StringArrayVar(&f.inputs, "input-urls", nil, "pattern of URLs that workflows may load pictures from; may be repeated (default none)")
	flags.StringArrayVar(&f.hooks, "webhook-urls", nil, "pattern of URLs that prompts may have told of their end; may be repeated (default none)")
	flags.StringVar(&f.hookDefault, "webhook-default", "", "URL that is told of prompts that name none")
	flags.StringVar(&f.hookSecret, "webhook-secret", "", "file of the secret that webhooks are signed with, made when it is not there (default home's webhook.secret)")
	flags.StringArrayVar(&f.networks, "allow-network", nil, "private network, as 10.0.0.0/8, that those URLs may lead to; may be repeated")
}

// apply opens everything for a server.
func (f *safetyFlags) apply(p *process, listen string, o *web.Options) (err error) {
	if o.Tokens, err = f.openTokens(listen, p.log); err != nil {
		return err
	}
	if o.Policy, err = f.openPolicy(); err != nil {
		return err
	}
	for _, s := range p.machine.seats {
		o.Policy.Guard(s.catalog, nodes.PictureSize)
	}
	if o.Inputs, err = f.openInputs(p); err != nil {
		return err
	}
	p.webhooks, err = f.openWebhooks(p)
	o.Webhooks = p.webhooks
	return err
}

// openTokens reads the tokens; nil when none are wanted. An address that others can reach wants some.
func (f *safetyFlags) openTokens(listen string, log *slog.Logger) (*auth.File, error) {
	if err := auth.CheckListen(listen, f.tokens != "", f.noAuth); err != nil {
		return nil, asUsage(err)
	}
	if f.tokens == "" {
		return nil, nil
	}
	tokens, err := auth.Open(f.tokens, func(err error) {
		if err != nil {
			log.Warn("tokens stay as they were", "file", f.tokens, "err", err)
			return
		}
		log.Info("tokens are read again", "file", f.tokens)
	})
	return tokens, asUsage(err)
}

// openPolicy reads the policy; nil when there is none.
func (f *safetyFlags) openPolicy() (*policy.Policy, error) {
	if f.policy == "" {
		return nil, nil
	}
	p, err := policy.Load(f.policy)
	return p, asUsage(err)
}

// allow makes the list of URLs that may be called.
func (f *safetyFlags) allow(flag string, patterns []string) (*remote.Allow, error) {
	var exempt []netip.Prefix
	for _, text := range f.networks {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, usagef("read --allow-network: %w", err)
		}
		exempt = append(exempt, network)
	}
	allow, err := remote.NewAllow(patterns, exempt...)
	if err != nil {
		return nil, usagef("read %s: %w", flag, err)
	}
	return allow, nil
}

// openInputs makes what fetches pictures; nil when none may be fetched.
func (f *safetyFlags) openInputs(p *process) (*remote.Inputs, error) {
	if len(f.inputs) == 0 {
		return nil, nil
	}
	allow, err := f.allow("--input-urls", f.inputs)
	if err != nil {
		return nil, err
	}
	return &remote.Inputs{Allow: allow, Dir: p.machine.dirs.Input, Outcome: p.metrics.RemoteInput}, nil
}

// openWebhooks makes what tells others; nil when nobody may be told.
func (f *safetyFlags) openWebhooks(p *process) (*remote.Webhooks, error) {
	if len(f.hooks) == 0 {
		if f.hookDefault != "" {
			return nil, usagef("read --webhook-default: no --webhook-urls allows it")
		}
		return nil, nil
	}
	allow, err := f.allow("--webhook-urls", f.hooks)
	if err != nil {
		return nil, err
	}
	file := f.hookSecret
	if file == "" {
		file = p.home.join("webhook.secret")
	}
	secret, err := readSecret(file)
	if err != nil {
		return nil, err
	}
	w, err := remote.OpenWebhooks(remote.WebhookOptions{
		Queue: p.queue, Allow: allow, Secret: secret, Journal: p.home.join("webhooks.journal"), Default: f.hookDefault,
		Log: p.log, Outcome: p.metrics.Webhook,
	})
	return w, asUsage(err)
}

// readSecret reads the secret of a file, or makes one.
func readSecret(file string) (remote.Secret, error) {
	text, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		text = []byte(remote.NewSecret() + "\n")
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("read secret of webhooks: %w", err)
	}
	secret, err := remote.ParseSecret(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, usagef("read --webhook-secret: %s: %w", file, err)
	}
	return secret, nil
}
