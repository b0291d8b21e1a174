package source

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/shopspring/decimal"
)

// pricesJSON is data with a date, not knowledge: prices change, and a source's own price wins.
//
//go:embed prices.json
var pricesJSON []byte

type priceTable struct {
	Date   string           `json:"date"`
	Models map[string]price `json:"models"` // by prefix of the model's name
}

// price is in US dollars for 1,000,000 tokens, as the providers write it.
type price struct {
	Input  decimal.Decimal `json:"input"`
	Output decimal.Decimal `json:"output"`
	Image  decimal.Decimal `json:"image"` // for one image, where a model is priced so
}

var prices = sync.OnceValue(func() priceTable {
	var t priceTable
	if err := json.Unmarshal(pricesJSON, &t); err != nil {
		panic(fmt.Sprintf("source: prices.json: %v", err))
	}
	return t
})

// Prices are per so many tokens: a power of ten, so that dividing only moves the point.
const (
	perThousand = -3
	perMillion  = -6
)

// cost is what usage of a model comes to: by the source's own price, else by the table. asked is
// the name in the source, answered the one the provider used.
func (c *call) cost(asked, answered string, usage Usage) Cost {
	in, hasIn := c.price("price_per_1k_input")
	out, hasOut := c.price("price_per_1k_output")
	if hasIn || hasOut {
		return Cost{Amount: amount(in, out, perThousand, usage), Known: true, Basis: "source"}
	}
	for _, model := range []string{answered, asked} {
		if p, ok := prices().find(model); ok {
			return Cost{Amount: amount(p.Input, p.Output, perMillion, usage), Known: true, Basis: "table " + prices().Date}
		}
	}
	return Cost{Amount: "0"}
}

func amount(in, out decimal.Decimal, per int32, usage Usage) json.Number {
	total := in.Mul(decimal.NewFromInt(usage.InputTokens)).Add(out.Mul(decimal.NewFromInt(usage.OutputTokens)))
	return json.Number(total.Shift(per).String())
}

func (c *call) price(key string) (decimal.Decimal, bool) {
	literal := c.config.number(key)
	if literal == "" {
		return decimal.Zero, false
	}
	d, err := decimal.NewFromString(string(literal))
	return d, err == nil && !d.IsNegative()
}

// find takes the longest name in the table that the model's name starts with, so that a dated
// version costs what its family costs.
func (t priceTable) find(model string) (price, bool) {
	model = strings.ToLower(strings.TrimPrefix(model, "models/"))
	best := ""
	for name := range t.Models {
		if len(name) > len(best) && strings.HasPrefix(model, name) && version.MatchString(model[len(name):]) {
			best = name
		}
	}
	p, ok := t.Models[best]
	return p, ok
}

// version is what may follow a name in the table: gpt-4o-2024-08-06 costs what gpt-4o does, but
// gpt-5-pro is another model than gpt-5.
var version = regexp.MustCompile(`^$|^[-@:](\d|v\d|latest$|preview|exp|generate)`)
