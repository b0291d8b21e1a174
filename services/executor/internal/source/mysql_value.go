package source

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"
)

// mysqlValue makes a JSON-safe value of a column.
func mysqlValue(kind string, value any) any {
	switch v := value.(type) {
	case nil:
		return nil
	case int64:
		return json.Number(strconv.FormatInt(v, 10))
	case uint64:
		return json.Number(strconv.FormatUint(v, 10))
	case float32:
		return float(float64(v), 32)
	case float64:
		return float(v, 64)
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	case []byte:
		return mysqlBytes(kind, v)
	case string:
		return mysqlBytes(kind, []byte(v))
	default:
		return value
	}
}

func float(f float64, bits int) any {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return strconv.FormatFloat(f, 'g', -1, bits)
	}
	return json.Number(strconv.FormatFloat(f, 'g', -1, bits))
}

func mysqlBytes(kind string, raw []byte) any {
	text := string(raw)
	switch strings.TrimPrefix(kind, "UNSIGNED ") {
	case "DECIMAL", "TINYINT", "SMALLINT", "MEDIUMINT", "INT", "BIGINT", "FLOAT", "DOUBLE", "YEAR":
		if _, err := strconv.ParseFloat(text, 64); err == nil {
			return json.Number(withoutZerofill(text))
		}
		return text
	case "DATETIME", "TIMESTAMP":
		if t, err := time.Parse("2006-01-02 15:04:05.999999999", text); err == nil {
			return t.Format(time.RFC3339Nano)
		}
		return text // 0000-00-00 00:00:00 is no time
	case "JSON":
		if v, err := decodeJSON(text); err == nil {
			return v
		}
		return text
	case "BIT":
		if len(raw) > 8 {
			return base64.StdEncoding.EncodeToString(raw)
		}
		var eight [8]byte
		copy(eight[8-len(raw):], raw)
		return json.Number(strconv.FormatUint(binary.BigEndian.Uint64(eight[:]), 10))
	case "BLOB", "TINYBLOB", "MEDIUMBLOB", "LONGBLOB", "BINARY", "VARBINARY", "GEOMETRY", "VECTOR":
		return base64.StdEncoding.EncodeToString(raw)
	default:
		return strings.ToValidUTF8(text, "\uFFFD")
	}
}

// withoutZerofill drops the zeros that ZEROFILL puts in front: 00042 is not a JSON number.
func withoutZerofill(text string) string {
	for len(text) > 1 && text[0] == '0' && text[1] >= '0' && text[1] <= '9' {
		text = text[1:]
	}
	return text
}
