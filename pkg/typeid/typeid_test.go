package typeid_test

import (
	"fmt"
	"sort"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/typeid"
)

func ExampleFormat() {
	// The example of the TypeID specification.
	fmt.Println(typeid.Format("prefix", uuid.MustParse("01890a5d-ac96-774b-bcce-b302099a8057")))
	// Output: prefix_01h455vb4pex5vsknk084sn02q
}

func TestNewIsWellFormedAndSorted(t *testing.T) {
	ids := make([]string, 1000)
	for i := range ids {
		ids[i] = typeid.New("exec")
		require.NoError(t, typeid.Check("exec", ids[i]))
	}
	require.True(t, sort.StringsAreSorted(ids))
}

func TestCheckRefuses(t *testing.T) {
	for _, id := range []string{
		"", "exec_", "wf_01h455vb4pex5vsknk084sn02q", "exec_01h455vb4pex5vsknk084sn02", "exec_81h455vb4pex5vsknk084sn02q",
		"exec_01h455vb4pex5vsknk084sn02u", "exec_01H455VB4PEX5VSKNK084SN02Q", "exec_01h455vb4pex5vsknk084sn0.q",
	} {
		require.ErrorIs(t, typeid.Check("exec", id), typeid.ErrMalformed, id)
	}
}
