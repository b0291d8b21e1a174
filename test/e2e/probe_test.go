package e2e
import ("syscall";"testing";"fmt";"time"
"github.com/agentflow/agentflow/test/fakeprovider";"github.com/agentflow/agentflow/test/platform")
func TestProbe(t *testing.T){
 hang:=fakeprovider.New(t,func(fakeprovider.Request) fakeprovider.Reply{return fakeprovider.Reply{Fault:fakeprovider.Hang}})
 p,err:=platform.Launch(t.Context(),platform.Options{Env:[]string{"AGENTFLOW_SECRET_MODEL="+modelKey,"LOG_LEVEL=warn"}})
 if err!=nil {t.Fatal(err)}
 for range 600 { p.Submit(t,asks(providers[0].model(hang),nil)) }
 done:=make(chan struct{}); go func(){ defer close(done); a,err:=p.Try(t,"POST","/workflows/execute",asks(providers[0].model(hang),nil)); fmt.Println("waiting client:",err,a.Status,string(a.Body)) }()
 time.Sleep(time.Second)
 pid:=p.Ready().PID; time.AfterFunc(15*time.Second,func(){ syscall.Kill(pid,syscall.SIGQUIT) }); b:=time.Now(); fmt.Println("stop:",p.Stop(),time.Since(b)); <-done; fmt.Println(p.Log())
 hang.Follow(nil)
 p.Close()
}
