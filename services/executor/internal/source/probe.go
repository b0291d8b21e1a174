package source

import (
	"context"
	"errors"
	"time"

	"github.com/agentflow/agentflow/pkg/workflow"
)

// testTimeout bounds a connection test.
const testTimeout = 10 * time.Second

// Stages of a connection test, in the order in which they are passed.
const (
	StageConfig     = "config"
	StageSecret     = "secret"
	StageEgress     = "egress"
	StageName       = "name"
	StageTCP        = "tcp"
	StageTLS        = "tls"
	StageAuth       = "auth"
	StagePermission = "permission"
	StageRequest    = "request"
	StageOK         = "ok"
)

// Test really connects: it makes the cheapest call the source allows and says which stage
// failed. It takes no longer than ten seconds and does not go through the circuit breaker,
// because a person who tests a source wants to know how it is now.
func (s *Sources) Test(ctx context.Context, caller Caller, src workflow.Source) TestResult {
	ctx, cancel := context.WithTimeout(ctx, testTimeout)
	defer cancel()
	began := time.Now()
	if problems := Check(src); len(problems) > 0 {
		return TestResult{Stage: StageConfig, Message: s.Mask(caller.Tenant, problems[0].Message), Latency: time.Since(began)}
	}
	c := s.newCall(caller, src)
	err := c.own(ctx, c.probe(ctx))
	result := TestResult{Connected: err == nil, Stage: StageOK, Message: "connected", Latency: time.Since(began)}
	if err != nil {
		result.Stage, result.Message = stageOf(err), err.Error()
	}
	return result
}

func (c *call) probe(ctx context.Context) error {
	switch c.source.Kind {
	case "api":
		return c.probeAPI(ctx)
	case "db":
		return c.probeSQL(ctx)
	case "llm", "image":
		provider, err := providerOf(c.source.Kind, c.config)
		if err != nil {
			return c.invalid("%s", err.Error())
		}
		c.provider = provider.Name
		if c.source.Kind == "image" {
			return registered.image[provider.Name].probe(ctx, c, c.imageModel(provider))
		}
		return registered.llm[provider.Name].probe(ctx, c, c.config.text("model", "model_name"))
	default:
		return c.invalid("kind %.20q is not one of llm, image, db, api", c.source.Kind)
	}
}

func stageOf(err error) string {
	var e *Error
	if !errors.As(err, &e) {
		return StageRequest
	}
	switch e.Class {
	case ClassSecret:
		return StageSecret
	case ClassEgress:
		return StageEgress
	case ClassInvalid:
		if e.Status == 0 && e.Code == "" {
			return StageConfig
		}
		return StageRequest
	case ClassAuth:
		if e.Status == 403 || e.Code == "42501" || e.Code == "1044" {
			return StagePermission
		}
		return StageAuth
	case ClassNetwork:
		switch e.Code {
		case StageName, StageTCP, StageTLS:
			return e.Code
		}
		return StageTCP
	case ClassTimeout:
		if e.Status == 0 {
			return StageTCP
		}
		return StageRequest
	default:
		return StageRequest
	}
}
