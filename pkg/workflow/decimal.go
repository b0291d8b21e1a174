package workflow

import (
	"encoding/json"
	"math"
	"math/big"
	"strconv"
	"strings"
)

// decimal is digits × 10^-scale, exact. Costs are added by the million: in binary floating
// point 0.1 + 0.2 would already be wrong, and the error would depend on the order of branches.
type decimal struct {
	digits *big.Int
	scale  int // ≥ 0
}

const (
	// maxExponent bounds numbers on their way in: 1e999999999 is eleven bytes that would
	// expand to a gigabyte.
	maxExponent = 64
	// maxDecimalText bounds the literals we parse; sums of bounded numbers stay well below it.
	maxDecimalText = 512
)

// decimalOf reads any kind of number, exactly. It reports false for everything else, for
// numbers beyond 10^±64, NaN and infinities.
func decimalOf(v any) (decimal, bool) {
	switch v := v.(type) {
	case json.Number:
		return parseDecimal(string(v))
	case int:
		return decimal{digits: big.NewInt(int64(v))}, true
	case int64:
		return decimal{digits: big.NewInt(v)}, true
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return decimal{}, false
		}
		// The shortest text that reads back as v is what its author meant: 0.1 is 0.1.
		return parseDecimal(strconv.FormatFloat(v, 'g', -1, 64))
	case int32:
		return decimal{digits: big.NewInt(int64(v))}, true
	case uint64:
		return decimal{digits: new(big.Int).SetUint64(v)}, true
	}
	return decimal{}, false
}

func parseDecimal(s string) (decimal, bool) {
	if s == "" || len(s) > maxDecimalText {
		return decimal{}, false
	}
	exponent := 0
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		e, err := strconv.Atoi(s[i+1:])
		if err != nil || e < -maxExponent || e > maxExponent {
			return decimal{}, false
		}
		exponent, s = e, s[:i]
	}
	whole, fraction, _ := strings.Cut(s, ".")
	text := whole + fraction
	if strings.Trim(strings.TrimPrefix(text, "-"), "0123456789") != "" {
		return decimal{}, false
	}
	digits, ok := new(big.Int).SetString(text, 10)
	if !ok {
		return decimal{}, false
	}
	scale := len(fraction) - exponent
	if scale < 0 {
		digits.Mul(digits, power10(-scale))
		scale = 0
	}
	return decimal{digits: digits, scale: scale}, true
}

func power10(n int) *big.Int {
	return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil)
}

func (d decimal) plus(o decimal) decimal {
	if d.scale < o.scale {
		d, o = o, d
	}
	other := o.digits
	if d.scale > o.scale {
		other = new(big.Int).Mul(other, power10(d.scale-o.scale))
	}
	return decimal{digits: new(big.Int).Add(d.digits, other), scale: d.scale}
}

// decimal writes the number with at least one and no superfluous digit after the point.
func (d decimal) decimal() string {
	s := d.text()
	if !strings.Contains(s, ".") {
		return s + ".0"
	}
	return s
}

// whole drops the fraction.
func (d decimal) whole() decimal {
	if d.scale == 0 {
		return d
	}
	return decimal{digits: new(big.Int).Quo(d.digits, power10(d.scale))}
}

func (d decimal) text() string {
	s := d.digits.String()
	if d.scale == 0 {
		return s
	}
	sign := ""
	if s[0] == '-' {
		sign, s = "-", s[1:]
	}
	if len(s) <= d.scale {
		s = strings.Repeat("0", d.scale-len(s)+1) + s
	}
	whole, fraction := s[:len(s)-d.scale], strings.TrimRight(s[len(s)-d.scale:], "0")
	if fraction == "" {
		return sign + whole
	}
	return sign + whole + "." + fraction
}
